# toy_street: drawn by program, needs no download. Sized so that the whole takes minutes on two CPU cores.

dataset=toy_street
height="${height:-64}"
width=$((2 * height))
prepare=(--height "$height" --width "$width" --num_train 2000 --num_val 500)

stage1=(--max_dim 32 --epochs 2 --batch_size 16 --fmap_max 64 --latent_dim 64)
stage2=(--niter 1 --niter_decay 1 --batch_size 8 --ngf 16 --hidden 32 --ndf 16 --no_vgg_loss --evaluate_every 0)
stage3=(--niter 0 --niter_decay 1 --batch_size 8 --lr_pgan 1e-4 --no_vgg_loss --evaluate_every 0)
scoring=(--num_eval 500 --no_fid)
