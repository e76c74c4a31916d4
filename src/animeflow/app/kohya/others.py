"""Keys of kohya's that have no counterpart, each with the reason. Knows words only."""

from __future__ import annotations

from collections.abc import Mapping


def _all(keys: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(keys.split(), reason)


# Nothing is lost: it is so here in any case, or belongs to the program that was left.
AS_HERE: Mapping[str, str] = {
    **_all(
        "cache_latents cache_latents_to_disk vae_batch_size cache_text_encoder_outputs cache_text_encoder_outputs_to_disk "
        "text_encoder_batch_size skip_cache_check torch_compile_cache",
        "pictures and captions are always encoded once and kept (animeflow cache)",
    ),
    **_all("xformers sdpa mem_eff_attn flash_attn sageattn attention", "train.attention=auto takes the fastest that is right"),
    **_all("max_data_loader_n_workers persistent_data_loader_workers num_cpu_threads_per_process", "data.loader.threads"),
    **_all("lowram highvram disable_mmap_load_safetensors offload_text_encoder_loading", "memory is planned: animeflow plan"),
    **_all("save_model_as no_metadata metadata_title metadata_author metadata_description metadata_license metadata_tags "
           "training_comment save_precision_metadata", "the export writes safetensors with a card and a full header"),
    **_all("logging_dir log_with log_prefix log_tracker_name log_tracker_config console_log_level console_log_file "
           "console_log_simple log_config", "runs/NAME/metrics.jsonl always; train.wandb=offline or online besides"),
    **_all("save_state save_state_on_train_end save_state_to_huggingface save_last_n_epochs_state save_last_n_steps_state",
           "every checkpoint can be resumed"),
    **_all("deepspeed zero_stage fsdp ddp_timeout ddp_gradient_as_bucket_view ddp_static_graph multi_gpu num_machines "
           "num_processes gpu_ids main_process_port dynamo_backend", "the launcher decides: docs/running.md"),
    **_all("output_dir", "a run lives in runs/NAME, its LoRA files in runs/NAME/export"),
    **_all("prior_loss_weight_schedule", "there is none"),
}  # fmt: skip

# Of models that predict noise along a diffusion schedule.
DIFFUSION = "belongs to models that predict noise; a flow has no such term"
# Things that were asked for and will not happen.
NO_COUNTERPART: Mapping[str, str] = {
    **_all(
        "noise_offset noise_offset_random_strength adaptive_noise_scale multires_noise_iterations multires_noise_discount "
        "ip_noise_gamma ip_noise_gamma_random_strength min_snr_gamma zero_terminal_snr scale_v_pred_loss_like_noise_pred "
        "v_pred_like_loss debiased_estimation_loss v_parameterization v2 sdxl prediction_type noise_offset_type",
        DIFFUSION,
    ),
    **_all("loss_type huber_schedule huber_c huber_scale", "the loss is the squared error"),
    **_all("min_timestep max_timestep", "timesteps are drawn from the whole of [0, 1]: recipe.density"),
    **_all("clip_skip max_token_length weighted_captions", "the text encoders are read as the model was trained with them"),
    **_all("blocks_to_swap cpu_offload_checkpointing unsloth_offload_checkpointing fused_backward_pass fused_optimizer_groups",
           "use learn.base_dtype=int8 or nf4 and train.activation_memory=full where memory is short"),
    **_all("save_n_epoch_ratio save_last_n_epochs save_last_n_steps", "train.keep_checkpoints says how many stay"),
    **_all("sample_prompts sample_at_first sample_sampler", "give the prompts as sample.prompts=[...]; docs/sampling.md"),
    **_all("huggingface_repo_id huggingface_repo_type huggingface_path_in_repo huggingface_token huggingface_repo_visibility "
           "async_upload resume_from_huggingface", "nothing is uploaded or downloaded"),
    **_all("wandb_run_name wandb_api_key", "use train.wandb=online and wandb login; keys do not belong into files"),
    **_all("resume initial_epoch initial_step skip_until_initial_step", "only its LoRA file can be gone on from: learn.start"),
    **_all("scale_weight_norms", "weights are not clipped: weight decay and the average (train.ema) hold them"),
    **_all("max_validation_steps validate_every_n_epochs validate_every_n_steps validation_split validation_seed",
           "catalogue.val_share holds pictures out, train.validate says how often they are looked at"),
    **_all("no_half_vae vae_dtype full_bf16 full_fp16 fp8_base_unet", "adapters are float32; the base is in learn.base_dtype"),
    **_all("torch_compile compile", "use train.compile=true; a short run hardly earns its minutes back"),
    **_all("skip_image_resolution resize_interpolation", "pictures are resized once, by area"),
    **_all("tokenizer_cache_dir cache_info debug_dataset", "there is none"),
    **_all("lr_scheduler_type lr_scheduler_args lr_scheduler_timescale lr_scheduler_min_lr_ratio lr_decay_steps",
           "optim.schedule has warm-up, constant and decay"),
}  # fmt: skip

# Of data sets and their subsets.
DATA_NO_COUNTERPART: Mapping[str, str] = {
    **_all("flip_aug", "pictures are never mirrored: text, asymmetric hair and clothes would be taught wrong; put mirrored copies "
           "into the folder if you want them"),
    **_all("color_aug", "colours are never changed: the model would learn the changed ones"),
    **_all("random_crop face_crop_aug_range", "the crop is the middle; data.shard.max_crop bounds what it loses"),
    **_all("caption_prefix caption_suffix", "text.concepts.NAME.trigger stands first; write the rest into the captions"),
    **_all("caption_separator keep_tokens_separator secondary_separator", "tags are separated by commas"),
    **_all("enable_wildcard", "several captions of a picture are drawn from by text.kinds; {a|b} is not read"),
    **_all("token_warmup_min token_warmup_step", "captions have all their tags from the beginning"),
    **_all("caption_dropout_every_n_epochs", "data.loader.caption_dropout is a share of all visits"),
    **_all("conditioning_data_dir", "masks lie beside the pictures, as NAME.mask.png or masks/NAME.png"),
    **_all("validation_split validation_seed network_multiplier custom_attributes", "catalogue.val_share holds pictures out"),
    **_all("resize_interpolation skip_image_resolution", "pictures are resized once, by area"),
    **_all("cache_info", "there is none"),
}  # fmt: skip

# Of data sets, and read by `size`.
SIZES = (
    *("resolution", "batch_size", "enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps"),
    *("bucket_no_upscale", "max_resolution"),
)

# Values of keys without a counterpart that say what is so here.
HARMLESS: Mapping[str, tuple[object, ...]] = {
    "loss_type": ("l2",),
    "min_timestep": (0,),
    "max_timestep": (1000,),
    "clip_skip": (1,),
    "max_token_length": (75, 77),
    "scale_weight_norms": (0,),
    "no_half_vae": (True,),
}
# Keys that mean nothing unless another one is on.
NEEDS: Mapping[str, str] = {
    **_all("huber_schedule huber_c huber_scale", "loss_type"),
    **_all("multires_noise_discount", "multires_noise_iterations"),
    **_all("noise_offset_type noise_offset_random_strength adaptive_noise_scale", "noise_offset"),
    **_all("sample_sampler sample_at_first", "sample_prompts"),
    **_all("wandb_run_name wandb_api_key log_tracker_name", "log_with"),
}
