"""Worker of `training.py`: torch, the decoder a loop over its steps as OpenNMT-py has it.

python training_torch.py WEIGHTS eager|compiled
"""

import sys

import torch
import work
from forced_torch import Torch
from steps import Steps, serve_steps
from torch import nn


class Training(Steps, Torch):
    describe = Torch.describe

    def __init__(self, weights: str) -> None:
        super().__init__(weights)
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


def main() -> None:
    training = Training(sys.argv[1])
    if sys.argv[2] == "compiled":
        training.loss = torch.compile(training.loss)
    serve_steps(training)


if __name__ == "__main__":
    main()
