# toy_street: drawn by program, needs no download. Sized so that all stages together take minutes on two CPU cores.

dataset=toy_street
height="${height:-64}"
width=$((2 * height))
prepare=(--height "$height" --width "$width" --num_train 336 --num_val 256)

stage1=(--max_dim 32 --epochs 2 --batch_size 8 --fmap_base 512 --fmap_max 64 --latent_dim 64 --num_eval 256)
stage2=(--niter 0 --niter_decay 2 --batch_size 2 --lr 4e-3 --ngf 16 --hidden 16 --ndf 16 --no_vgg_loss)
stage2+=(--evaluate_every 0 --picture_every 100)
stage3=(--niter 0 --niter_decay 1 --batch_size 8 --lr 1e-3 --lr_pgan 1e-4 --no_vgg_loss)
stage3+=(--evaluate_every 0 --picture_every 50)
scoring=(--num_eval 256 --no_fid)
