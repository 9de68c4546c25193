"""Time and memory in which a large volume is classified: as a whole, by windows, by slices.

    python -m benchmarks.volumes.memory [--size 128] [--draws 2] [--output FILE]

One volume, two classes, maps of the errors too, weights at random: what is measured depends on shapes alone. Each way
runs in a process of its own, of which the highest resident memory is taken, with Python and its libraries (these alone:
``libraries``); on a GPU the memory that torch allocated there. A process that asks for more than `CAP` of address space
on a CPU is ended, and has no figures but that. Seconds are of the processor, or of the clock on a GPU. MONAI's U-Net
attends in its middle: without the wavelet transform that would be over 262,144 positions, which is not measured.
Writes ``benchmarks/results/volume_memory.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler

from benchmarks.bundles import BUNDLES, RESULTS
from monai_diffclf.bundle import open_bundle
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks.nets import SliceNetwork, SlidingWindowNetwork, WaveletDiffusionUNet
from monai_diffclf.storage.atomic_file import replace_text

LIMIT, CAP = 8 * 2**30, 16 * 2**30
SMALL = {"channels": (16, 32), "attention_levels": (False, False), "num_res_blocks": 1, "norm_num_groups": 16}
FLASH = {"use_flash_attention": True}  # attention in the middle of the U-Net, of 32,768 positions


def wavelet_unet() -> torch.nn.Module:
    """A U-Net of volumes behind one level of the Haar transform."""
    return WaveletDiffusionUNet(3, 1, levels=1, num_head_channels=16, num_class_embeds=3, **SMALL, **FLASH)


def bundle_network() -> torch.nn.Module:
    """The network of the bundle phantom_volume_diffusion, which takes the slices."""
    network: torch.nn.Module = open_bundle(BUNDLES / "phantom_volume_diffusion", "train.json").get("denoiser")
    return network


def unet_of_planes() -> torch.nn.Module:
    """A U-Net on the pixels of planes, without a wavelet transform."""
    return DiffusionModelUNet(2, 1, 1, num_head_channels=16, num_class_embeds=3, **SMALL, **FLASH)


WAYS: dict[str, Callable[[], torch.nn.Module]] = {
    "wavelet U-Net, whole": wavelet_unet,
    "wavelet U-Net, windows of 64": lambda: SlidingWindowNetwork(wavelet_unet(), 64, margin=8),
    "U-Net of slices": lambda: SliceNetwork(unet_of_planes(), sw_batch_size=32),
    "phantom_volume_diffusion, slices": bundle_network,
}


def measure(way: str, size: int, draws: int) -> dict[str, float]:
    """Peak memory and seconds of one way, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    libraries = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    network = WAYS[way]().to(device).eval()
    volume = torch.rand(1, 1, size, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    inferer = DiffusionClassifierInferer(
        DDPMScheduler(1000, prediction_type="v_prediction"), 2, num_draws=draws, batch_size=2
    )
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    if device.type == "cpu":
        resource.setrlimit(resource.RLIMIT_AS, (CAP, CAP))
    try:
        inferer.classify(volume, network, error_maps=True)
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        return {"more_than_bytes": CAP}
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = clock() - start
    peak = (
        torch.cuda.max_memory_allocated()
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {"peak_bytes": peak, "libraries": libraries, "seconds_per_draw": round(seconds / draws, 2)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128, help="voxels a side")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--way", choices=list(WAYS), help="measure this one in this process, and print it")
    parser.add_argument("--output", type=Path, default=RESULTS / "volume_memory.json")
    args = parser.parse_args(arguments)
    if args.way:
        print(json.dumps(measure(args.way, args.size, args.draws)))
        return
    found = {}
    for way in WAYS:
        command = [sys.executable, "-m", "benchmarks.volumes.memory", "--way", way]
        command += ["--size", str(args.size), "--draws", str(args.draws)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[way] = json.loads(done.stdout.splitlines()[-1])
        print(way, found[way], flush=True)
    report = {
        "size": args.size,
        "draws": args.draws,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "one CPU core",
        "within_8_gib": [way for way, each in found.items() if each.get("peak_bytes", CAP) < LIMIT],
        "ways": found,
    }
    replace_text(args.output, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
