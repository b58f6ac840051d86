"""Every key of an experiment, with its unit; the other files change a few of them.

A value of None must be set by the file that builds on this one.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.seed = 0  # of parameters, data order and noise
    config.pretrained = ""  # folder of the model to start from; "" draws parameters

    config.data = ml_collections.ConfigDict()
    config.data.name = ml_collections.config_dict.placeholder(str)  # TFDS name
    config.data.data_dir = "data"  # folder of TFDS data sets
    config.data.train_split = "train"
    config.data.eval_split = "validation"  # held out, for sample grids
    config.data.random_crop = False  # where the files are larger than the network's
    config.data.random_flip = False
    config.data.num_workers = 0  # processes that decode; 0 for threads

    config.model = ml_collections.ConfigDict()
    config.model.image_size = 256  # pixels
    config.model.model_channels = 128  # width of the finest resolution at mult 1
    config.model.channel_mult = (1, 1, 2, 2, 4, 4)  # width of each resolution
    config.model.num_res_blocks = 1  # per resolution
    config.model.attention_resolutions = (16,)  # pixels
    config.model.in_channels = 3
    config.model.out_channels = 3
    config.model.learn_sigma = True  # also predict the variance
    config.model.num_heads = 4  # where num_head_channels is -1
    config.model.num_head_channels = 64  # channels per head
    config.model.num_heads_upsample = -1  # num_heads of the way up; -1 for the same
    config.model.use_new_attention_order = False  # of q, k and v; as the weights have
    config.model.use_scale_shift_norm = True
    config.model.resblock_updown = True
    config.model.dropout = 0.0  # rate
    config.model.dtype = "float32"  # of convolutions and attention, or "bfloat16"
    config.model.use_remat = False  # recompute blocks backwards to save memory
    config.model.noise_embedding = "spatial"  # or "time": one timestep for all pixels

    config.schedule = ml_collections.ConfigDict()
    config.schedule.kind = "linear"  # "cosine"; continuous "vp", "subvp" or "ve"
    config.schedule.hole_steps = 1000  # T1
    config.schedule.known_steps = 1000  # T2
    config.schedule.hole_betas = (1e-4, 0.02)  # first and last of phase 1
    config.schedule.known_betas = (1e-4, 0.02)  # and of phase 2
    config.schedule.timestep_offset = 0  # 1: the authors' table
    config.schedule.base_steps = 1000  # of the pretrained model's process
    config.schedule.timestep_scale = 1.0  # 1000 / base_steps: iDDPM's rescaled ones
    config.schedule.sigmas = (0.01, 50.0)  # least and largest noise of kind "ve"
    config.schedule.unit_input = False

    config.loss = ml_collections.ConfigDict()
    config.loss.parametrisation = "eps"  # "v", "score" or "x0"
    config.loss.vlb_weight = 1e-3  # ADM's would be T / 1000
    config.loss.all_pixels = False  # True: average the MSE over clean pixels too

    config.distil = ml_collections.ConfigDict()  # for few evaluations, docs/fewsteps.md
    config.distil.kind = ""  # "trajectory", "consistency" or "energy"; "": none of it
    config.distil.teacher = ""  # folder of the model, where the student starts, too
    config.distil.times = (1000, 640, 360, 160)  # at which the student will be asked
    config.distil.start_share = 0.5  # of training, at the first of these
    config.distil.teacher_steps = 10
    config.distil.points = 4  # of each of the teacher's paths
    config.distil.energy_steps = 0  # of train.num_steps, the last, by the energy score
    config.distil.energy_learning_rate = 3e-4
    config.distil.features = "pixels"  # "patches", "random" or "lpips"
    config.distil.weights = ""  # folder of LPIPS' network

    config.codec = None  # the autoencoder of a model in latents, docs/bases.md

    config.mask = ml_collections.ConfigDict()
    config.mask.kind = "perlin"  # or "box", "mixed"; "full": plain DDPM in phase 1
    config.mask.blur = 0.0  # standard deviation, pixels; soft masks cost more

    config.lora = ml_collections.ConfigDict()
    config.lora.rank = 0  # of the adapters of a pretrained model; 0 trains everything
    config.lora.alpha = 16.0  # adapters are multiplied by alpha / rank
    config.lora.targets = ("conv_in", "conv_out", "conv1", "conv2", "qkv", "proj")
    config.lora.base_dtype = "float32"  # of the frozen kernels, or "bfloat16"

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 1e-4
    config.optimizer.warmup_steps = 0
    config.optimizer.decay = "constant"  # or "cosine"
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.9999

    config.train = ml_collections.ConfigDict()
    config.train.num_steps = 300_000
    config.train.batch_size = 16  # images, over all devices
    config.train.microbatches = 1  # parts of a batch, one after the other
    config.train.fsdp = 1  # devices that share one copy of what trains
    config.train.max_skipped = 20  # steps not finite in a row before giving up
    config.train.log_every = 100  # steps
    config.train.checkpoint_every = 5000  # steps
    config.train.keep_checkpoints = 2  # the latest
    config.train.keep_every = 0  # steps; checkpoints of their multiples stay too
    config.train.sample_every = 5000  # steps
    config.train.sample_steps = 100  # sampling steps of a grid
    config.train.wandb_project = ""  # of Weights & Biases
    return config
