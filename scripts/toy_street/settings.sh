# toy_street: drawn by program, needs no download. Sized so that all stages together take minutes on two CPU cores.

dataset=toy_street
height="${height:-64}"
width=$((2 * height))
# One weather: how the light varies takes more images than minutes leave time for (python -m datasets.prepare toy_street
# draws all eight kinds where none is named).
prepare=(--height "$height" --width "$width" --num_train 672 --num_val 256 --weather clear)

stage1=(--max_dim 32 --epochs 2 --epochs_at 4:0,32:7 --batch_size 4 --lr 4e-3 --loss r1 --penalty_weight 1)
stage1+=(--fmap_base 256 --fmap_max 64 --latent_dim 64 --num_eval 256)
stage2=(--niter 3 --niter_decay 1 --batch_size 2 --lr 4e-3 --init_gain 1 --ngf 8 --hidden 16 --ndf 8 --no_vgg_loss)
stage2+=(--interpolation bilinear --noise)
stage2+=(--evaluate_every 0 --picture_every 100)
stage3=(--niter 0 --niter_decay 1 --batch_size 4 --lr 2e-3 --lr_pgan 1e-3 --lambda_D2 4 --penalty_weight 1)
stage3+=(--drawn_layouts argmax --layout_grad full --no_vgg_loss --evaluate_every 0 --picture_every 50)
segmenter=(--enlarge 2 --steps 1500 --batch_size 4 --lr 2e-3 --zoom 1.25 --jitter 0.1 --num_eval 256)
scoring=(--num_eval 256 --no_fid)
