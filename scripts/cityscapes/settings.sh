# Cityscapes-5K: 2975 training images with the 35 original classes. --source: the folder of leftImg8bit and gtFine.

dataset=cityscapes
height=256
width=512
prepare=(--height $height --width $width)

# Above 128 rows a quarter of the batch: 256x512 one-hot layouts of 35 classes are large.
stage1=(--max_dim 256 --epochs 150 --batch_size 16 --batch_sizes 256:4)
stage2=(--niter 100 --niter_decay 100 --batch_size 24 --upsampling more --evaluate_every 10)
stage3=(--niter 50 --niter_decay 50 --batch_size 8 --lr_pgan 1e-5 --evaluate_every 5)
segmenter=(--steps 40000 --batch_size 16)
scoring=(--num_eval 500)
