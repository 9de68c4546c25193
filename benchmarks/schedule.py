"""The noise schedule of the bundles, for programs that train networks of their own."""

from __future__ import annotations

from monai.networks.schedulers import DDPMScheduler

import monai_diffclf.networks.schedulers  # noqa: F401 (registers the schedule cosine_log_snr)

__all__ = ["make_scheduler"]


def make_scheduler() -> DDPMScheduler:
    """Cosine in the log-SNR, from -10 to 10, with v as what is predicted."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        schedule="cosine_log_snr",
        log_snr_min=-10.0,
        log_snr_max=10.0,
        prediction_type="v_prediction",
        clip_sample=False,
    )
