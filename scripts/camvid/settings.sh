# CamVid, SegNet's split: 367 street photographs with 12 classes, cropped to 2:1. --source: the folder of images and
# labels. Narrow networks, sized for a CPU; height=128 bash ... makes and uses a larger store.

dataset=camvid
height="${height:-64}"
width=$((2 * height))
prepare=(--height "$height" --width "$width")

stage1=(--max_dim 32 --epochs 8 --batch_size 16 --fmap_max 64 --save_every 1000 --num_eval 367)
stage2=(--niter 6 --niter_decay 6 --batch_size 4 --lr 1e-3 --ngf 16 --hidden 32 --ndf 16 --evaluate_every 0)
stage3=(--niter 1 --niter_decay 2 --batch_size 4 --lr 4e-4 --lr_pgan 1e-4 --evaluate_every 0)
segmenter=(--enlarge 2 --steps 1200 --batch_size 4 --lr 2e-3 --zoom 1.25 --jitter 0.15)
scoring=(--num_eval 367)
