# ADE-Indoor: 4377 images of ten kinds of rooms, 95 classes. --source: the folder that datasets/download_ade.sh makes.

dataset=ade_indoor
height=256
width=256
prepare=(--height $height --width $width) # stored with a short edge of 286 pixels; training crops 256

stage1=(--max_dim 256 --epochs 100 --batch_size 36 --batch_sizes 256:9)
stage2=(--niter 150 --niter_decay 150 --batch_size 48 --upsampling normal --evaluate_every 10)
stage3=(--niter 50 --niter_decay 50 --batch_size 16 --lr_pgan 1e-4 --evaluate_every 5)
segmenter=(--steps 40000 --batch_size 16)
scoring=(--num_eval 433)
