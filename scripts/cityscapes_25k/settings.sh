# Cityscapes-25K: 2975 fine images, each drawn 7 times as often, and 19997 extra ones; 19 classes and unknown.
# --source: the folder of leftImg8bit, gtFine_new, leftImg8bit_trainextra and drn_d_105_000_test.

dataset=cityscapes_25k
height=256
width=512
prepare=(--height $height --width $width)

stage1=(--max_dim 256 --epochs 20 --batch_size 32 --batch_sizes 256:8)
stage2=(--niter 30 --niter_decay 30 --batch_size 32 --upsampling more --evaluate_every 5)
stage3=(--niter 30 --niter_decay 30 --batch_size 8 --lr_pgan 1e-5 --evaluate_every 1)
segmenter=(--steps 40000 --batch_size 16)
scoring=(--num_eval 500)
