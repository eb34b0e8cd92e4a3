"""Worker of `training.py`: eager torch, the decoder a loop over its steps as OpenNMT-py has it.

python training_torch.py WEIGHTS
"""

import sys
import time

import torch
import work
from forced_torch import Torch
from torch import nn
from worker import serve


class Training(Torch):
    def __init__(self, weights: str) -> None:
        super().__init__(weights)
        with torch.no_grad():
            self.head.bias.zero_()
        self.optimizer = torch.optim.Adam(self.parameters(), 1e-3, fused=True)
        self.batch = [torch.tensor(ids) for ids in work.pairs()]

    def loss(self, source, target_in, target_out):
        memory, kept, (hidden, carry) = self.encode(source)
        keys, vector = self.keys(memory), torch.zeros_like(hidden)
        words, vectors = self.target_embedding(target_in), []
        for step in range(target_in.shape[1]):
            hidden, carry = self.cell(torch.cat([words[:, step], vector], -1), (hidden, carry))
            logits = torch.bmm(keys, hidden[:, :, None]).squeeze(-1)
            scores = torch.softmax(logits.masked_fill(~kept, -torch.inf), dim=-1)
            context = torch.bmm(scores[:, None], memory).squeeze(1)
            vector = torch.tanh(self.attention_vector(torch.cat([context, hidden], dim=-1)))
            vectors.append(vector)
        logits = self.head(torch.stack(vectors, 1))
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), target_out.flatten(), ignore_index=work.PADDING_ID
        )

    def train_once(self) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(*self.batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), 5.0)
        self.optimizer.step()
        return float(loss)

    def step(self, count: int = 1) -> float:
        def steps() -> None:
            for _ in range(count):
                self.train_once()

        return work.milliseconds(steps) / count

    def losses(self, count: int) -> list[float]:
        return [self.train_once() for _ in range(count)]

    def first_step(self) -> float:
        start = time.perf_counter()
        self.step()
        return time.perf_counter() - start

    def memory(self) -> float:
        return work.peak_megabytes(self.step)


def main() -> None:
    training = Training(*sys.argv[1:])
    names = ("describe", "step", "losses", "first_step", "memory")
    serve({name: getattr(training, name) for name in names})


if __name__ == "__main__":
    main()
