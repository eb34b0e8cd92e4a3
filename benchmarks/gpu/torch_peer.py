"""Worker of `run.py`: torch, its decoder a loop over its steps as OpenNMT-py has it.

    python torch_peer.py float32|tf32|bfloat16 eager|compiled|graphs WEIGHTS

`compiled` puts `torch.compile` around the loss, `graphs` with CUDA graphs (`reduce-overhead`). The
encoder is cuDNN's in all of them.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "peers"))

import sizes
import torch
import work
from training_torch import Training
from worker import serve

_MODES = {"compiled": "default", "graphs": "reduce-overhead"}


class Peer(Training):
    def __init__(self, precision: str, mode: str, weights: str) -> None:
        is_tf32 = precision != "float32"
        torch.set_float32_matmul_precision("high" if is_tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = is_tf32
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        super().__init__(weights)
        self.to(self.device)
        self.optimizer = torch.optim.Adam(self.parameters(), 1e-3, fused=True)
        self.is_bfloat16 = precision == "bfloat16"
        self.run_loss = self.loss
        if mode in _MODES:
            self.run_loss = torch.compile(self.loss, dynamic=False, mode=_MODES[mode])

    # Packed sequences and cuDNN are nothing that a compiler helps with.
    encode = torch.compiler.disable(Training.encode)

    def versions(self) -> str:
        name = torch.cuda.get_device_name() if self.device == "cuda" else "CPU"
        return f"torch {torch.__version__}, {name}"

    def _take_batch(self, batch: int) -> None:
        ids = sizes.batch_of("common", batch)
        self.batch = [torch.tensor(one, device=self.device) for one in ids]

    def _step(self) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.is_bfloat16):
            loss = self.run_loss(*self.batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters(), 5.0)
        self.optimizer.step()
        return loss

    def first(self, batch: int) -> tuple[float, float]:
        """Seconds of the first step, which compiles, and its loss."""
        self._take_batch(batch)
        start = time.perf_counter()
        loss = float(self._step())
        return time.perf_counter() - start, loss

    def run(self, batch: int, steps: int) -> float:
        """Milliseconds a step."""
        self._take_batch(batch)

        def several() -> None:
            for _ in range(steps):
                loss = self._step()
            float(loss)

        return work.milliseconds(several) / steps


def main() -> None:
    peer = Peer(*sys.argv[1:4])
    serve({name: getattr(peer, name) for name in ("versions", "first", "run")})


if __name__ == "__main__":
    main()
