# Numbers for pictures of one's own, chosen from what the packed store holds. Sourced by settings.sh.
#
# The size decides how wide the networks are, and with that on what they can be trained: 64 rows and fewer on a CPU
# (scripts/camvid's numbers), 256 rows and more on GPUs (the published ones). The number of images decides the epochs: as
# many images are seen as in that recipe, but each at most 200 times in stage 2, 100 times in stage 3 and in a phase of
# stage 1: more would only teach few images by heart. Batches are powers of two and no larger than the training split.
# The layout GAN is as wide as there are classes, and ends at half of the rows, since layouts are smooth.

# within VALUE LOWEST HIGHEST
within() { echo $(($1 < $2 ? $2 : $1 > $3 ? $3 : $1)); }

power_of_two() { # the largest that is at most the number
    local power=1
    while ((2 * power <= $1)); do power=$((2 * power)); done
    echo "$power"
}

# choose IMAGES ROWS COLUMNS CLASSES: of the training split
choose() {
    local images="$1" rows="$2" columns="$3" classes="$4"
    local fmap phase batch1=16 # stage 1: channels at most, images of a phase, batch
    local ngf hidden seen      # stage 2: channels, hidden channels of modulations, images in all
    local joined batch lr lr_joined lr_pgan      # stage 3: images in all; stages 2 and 3
    local more1=() more2=() more3=() more23=()   # further flags of each stage, and of stages 2 and 3
    local finest=$((rows > 8 ? rows / 2 : 4)) last epochs upsampling=normal
    baseline=()
    if ((rows <= 64)); then
        fmap=64 phase=1468 batch1=4 ngf=8 hidden=16 seen=17616 joined=1468 batch=4 lr=4e-3 lr_joined=1e-3 lr_pgan=1e-3
        local coarsest="$([ "$finest" = 4 ] || echo 4:0,)" # is left out
        more1=(--epochs_at "$coarsest$finest:$(within $((5872 / images)) 1 100)")
        more1+=(--lr 4e-3 --loss r1 --penalty_weight 1 --latent_dim 64)
        baseline=(--epochs_at "$coarsest$finest:$(within $((2936 / images)) 1 100),$rows:$(within $((4404 / images)) 1 100)")
        baseline+=(--augment color,translation)
        more2=(--init_gain 1 --interpolation bilinear)
        more3=(--penalty_weight 1 --lambda_D2 4 --warm_D2 --drawn_layouts argmax --layout_grad full)
        more23=(--augment color,translation --no_vgg_loss --evaluate_every 0) # VGG-19 would take most of a CPU's time
    elif ((rows <= 128)); then
        fmap=128 phase=36000 ngf=32 hidden=64 seen=50000 joined=12500 batch=4 lr=4e-4 lr_joined=2e-4 lr_pgan=1e-4
    else
        fmap=512 phase=450000 ngf=64 hidden=128 seen=600000 joined=300000 batch=8 lr=2e-4 lr_joined=2e-4 lr_pgan=1e-5
    fi
    while ((fmap < classes && fmap < 512)); do fmap=$((2 * fmap)); done
    batch1="$(power_of_two "$(within "$images" 1 "$batch1")")"
    batch="$(power_of_two "$(within "$images" 1 "$batch")")"
    if ((columns >= 512)); then upsampling=more; fi

    height="$rows" # for the baseline, which draws images of the store's own size
    stage1=(--max_dim "$finest" --epochs "$(within $((phase / images)) 1 100)" --batch_size "$batch1" --fmap_max "$fmap")
    if ((rows <= 64)); then more1+=(--fmap_base $((4 * fmap))); fi # so that the finest block has a quarter of that
    stage1+=(${more1[@]+"${more1[@]}"})
    if ((finest > 64 && classes > 64)); then # one-hot layouts of many classes are large
        stage1+=(--batch_sizes "$finest:$(within $((batch1 / 4)) 1 16)")
    fi
    epochs="$(within $((seen / images)) 2 200)"
    last=$((epochs / 2))
    stage2=(--niter $((epochs - last)) --niter_decay "$last" --batch_size "$batch" --lr "$lr")
    stage2+=(--ngf "$ngf" --hidden "$hidden" --ndf "$ngf" --upsampling "$upsampling" ${more23[@]+"${more23[@]}"})
    stage2+=(${more2[@]+"${more2[@]}"})
    epochs="$(within $((joined / images)) 2 100)"
    last=$((epochs / 2))
    stage3=(--niter $((epochs - last)) --niter_decay "$last" --batch_size "$batch")
    stage3+=(--lr "$lr_joined" --lr_pgan "$lr_pgan" ${more3[@]+"${more3[@]}"} ${more23[@]+"${more23[@]}"})
    scoring=(--num_eval "$(within "$images" 16 500)")
    segmenter=(--batch_size "$batch")
    if ((rows <= 64)); then
        segmenter+=(--enlarge 2 --steps 1200 --lr 2e-3 --zoom 1.25 --jitter 0.15) # minutes on a CPU
    elif ((rows <= 128)); then
        segmenter+=(--enlarge 2 --steps 10000)
    else
        segmenter+=(--steps 40000)
    fi
    stage1+=("${scoring[@]}")
    echo "chosen by scripts/choose.sh for $images training images of ${rows}x$columns with $classes classes:"
    printf '  %s\n' "stage 1: ${stage1[*]}" "stage 2: ${stage2[*]}" "stage 3: ${stage3[*]}" "scores:  ${scoring[*]}" \
        "segmenter: ${segmenter[*]}"
}
