# CamVid, SegNet's split: 367 street photographs with 12 classes, cropped to 2:1. --source: the folder of images and
# labels. Narrow networks, sized for a CPU; height=128 bash ... makes and uses a larger store.

dataset=camvid
height="${height:-64}"
width=$((2 * height))
prepare=(--height "$height" --width "$width")

stage1=(--max_dim 32 --epochs 4 --epochs_at 4:0,32:16 --batch_size 4 --lr 4e-3 --loss r1 --penalty_weight 1)
stage1+=(--fmap_base 256 --fmap_max 64 --latent_dim 64 --save_every 1000 --num_eval 367)
baseline=(--epochs_at "4:0,32:8,$height:12" --augment color,translation) # of the RGB baseline, beside stage 1's
stage2=(--niter 24 --niter_decay 24 --batch_size 4 --lr 4e-3 --init_gain 1 --ngf 8 --hidden 16 --ndf 8)
stage2+=(--interpolation bilinear --augment color,translation --evaluate_every 0)
stage3=(--niter 2 --niter_decay 2 --batch_size 4 --lr 1e-3 --lr_pgan 1e-3 --penalty_weight 1 --lambda_D2 4 --warm_D2)
stage3+=(--drawn_layouts argmax --layout_grad full --augment color,translation --evaluate_every 0)
segmenter=(--enlarge 2 --steps 1200 --batch_size 4 --lr 2e-3 --zoom 1.25 --jitter 0.15)
scoring=(--num_eval 367)
