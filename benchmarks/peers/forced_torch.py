"""Worker of `forced.py`: a batched beam search in torch, the memory tiled for the beams.

python forced_torch.py WEIGHTS eager|compiled
"""

import sys

import numpy as np
import torch
import work
from torch import nn
from worker import serve


class Torch(nn.Module):
    """The same model, from torch's own layers; keys are projected once a sentence."""

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(work.VOCABULARY, work.EMBEDDING)
        self.target_embedding = nn.Embedding(work.VOCABULARY, work.EMBEDDING)
        self.encoder = nn.LSTM(
            work.EMBEDDING, work.ENCODER_UNITS, batch_first=True, bidirectional=True
        )
        depth = 2 * work.ENCODER_UNITS
        self.bridges = nn.ModuleList([nn.Linear(2 * depth, work.UNITS) for _ in range(2)])
        self.cell = nn.LSTMCell(work.EMBEDDING + work.UNITS, work.UNITS)
        self.keys = nn.Linear(depth, work.UNITS, bias=False)
        self.attention_vector = nn.Linear(depth + work.UNITS, work.UNITS, bias=False)
        self.head = nn.Linear(work.UNITS, work.VOCABULARY)
        self.source = torch.tensor(work.source())
        self._take(dict(np.load(weights)))

    def encode(self, source):
        kept = source != work.PADDING_ID
        # torch wants the lengths on the CPU, wherever the rest is.
        packed = nn.utils.rnn.pack_padded_sequence(
            self.source_embedding(source), kept.sum(1).cpu(), batch_first=True, enforce_sorted=False
        )
        memory, (hidden, carry) = self.encoder(packed)
        memory, _ = nn.utils.rnn.pad_packed_sequence(
            memory, batch_first=True, total_length=source.shape[1]
        )
        # Each way's two states, as Keras returns them.
        final = torch.cat([hidden[0], carry[0], hidden[1], carry[1]], dim=-1)
        return memory, kept, [torch.tanh(bridge(final)) for bridge in self.bridges]

    def _start(self, source, copies: int):
        memory, kept, (hidden, carry) = self.encode(source)
        constant = [memory, self.keys(memory), kept]
        state = [hidden, carry, torch.zeros_like(hidden)]
        tiled = [[part.repeat_interleave(copies, 0) for part in one] for one in (constant, state)]
        return tiled[0], tiled[1]

    def step(self, ids, state, memory, keys, kept):
        """One step for rows that hold sentences and beams: log-probabilities and new state."""
        hidden, carry, vector = state
        inputs = torch.cat([self.target_embedding(ids), vector], dim=-1)
        hidden, carry = self.cell(inputs, (hidden, carry))
        logits = torch.bmm(keys, hidden[:, :, None]).squeeze(-1)
        scores = torch.softmax(logits.masked_fill(~kept, -torch.inf), dim=-1)
        context = torch.bmm(scores[:, None], memory).squeeze(1)
        vector = torch.tanh(self.attention_vector(torch.cat([context, hidden], dim=-1)))
        return torch.log_softmax(self.head(vector), dim=-1), [hidden, carry, vector]

    @torch.inference_mode()
    def beam(self, source):
        batch, width = source.shape[0], work.BEAM_WIDTH
        constant, state = self._start(source, width)
        ids = torch.full((batch * width,), work.START_ID)
        # One hypothesis to begin with; the others cannot be chosen.
        log_probs = torch.full((batch, width), -torch.inf)
        log_probs[:, 0] = 0
        has_ended = torch.zeros((batch, width), dtype=torch.bool)
        # What has ended goes on with the end, for nothing.
        frozen = torch.full((work.VOCABULARY,), -torch.inf)
        frozen[work.END_ID] = 0
        first = torch.arange(batch)[:, None] * width
        history = torch.empty((batch, width, 0), dtype=torch.long)
        for _ in range(work.STEPS):
            gained, state = self.step(ids, state, *constant)
            gained = gained.view(batch, width, -1)
            if bool(has_ended.any()):
                gained = torch.where(has_ended[..., None], frozen, gained)
            totals = log_probs[..., None] + gained
            log_probs, chosen = totals.view(batch, -1).topk(width)
            parents, new_ids = chosen // work.VOCABULARY, chosen % work.VOCABULARY
            rows = (first + parents).view(-1)
            state = [part.index_select(0, rows) for part in state]
            history = torch.cat(
                [history.gather(1, parents[..., None].expand_as(history)), new_ids[..., None]], -1
            )
            has_ended = has_ended.gather(1, parents) | (new_ids == work.END_ID)
            if bool(has_ended.all()):
                break
            ids = new_ids.view(-1)
        return history[:, 0], log_probs[:, 0]

    @torch.inference_mode()
    def greedy(self, source):
        constant, state = self._start(source, 1)
        ids = torch.full((source.shape[0],), work.START_ID)
        log_probs = torch.zeros(source.shape[0])
        has_ended = torch.zeros_like(ids, dtype=torch.bool)
        history = []
        for _ in range(work.STEPS):
            gained, state = self.step(ids, state, *constant)
            best, ids = gained.max(-1)
            ids = ids.masked_fill(has_ended, work.END_ID)
            log_probs += best.masked_fill(has_ended, 0)
            has_ended |= ids == work.END_ID
            history.append(ids)
            if bool(has_ended.all()):
                break
        return torch.stack(history, 1), log_probs

    @torch.no_grad()
    def _take(self, arrays: dict) -> None:
        """Our weights; torch keeps kernels transposed, and two biases where Keras has one."""

        def put(parameter, name: str, transpose: bool = True) -> None:
            array = torch.from_numpy(arrays[name])
            parameter.copy_(array.T if transpose else array)

        def put_cell(layer, name: str, suffix: str, first: int) -> None:
            put(getattr(layer, f"weight_ih{suffix}"), f"{name}.{first}")
            put(getattr(layer, f"weight_hh{suffix}"), f"{name}.{first + 1}")
            put(getattr(layer, f"bias_ih{suffix}"), f"{name}.{first + 2}", False)
            getattr(layer, f"bias_hh{suffix}").zero_()

        put(self.source_embedding.weight, "source_embedding.0", False)
        put(self.target_embedding.weight, "target_embedding.0", False)
        put_cell(self.encoder, "encoder", "_l0", 0)
        put_cell(self.encoder, "encoder", "_l0_reverse", 3)
        for index, bridge in enumerate(self.bridges):
            put(bridge.weight, f"bridge_{index}.0")
            put(bridge.bias, f"bridge_{index}.1", False)
        put_cell(self.cell, "cell", "", 0)
        put(self.keys.weight, "attention.0")
        put(self.attention_vector.weight, "attention_vector.0")
        put(self.head.weight, "head.0")
        put(self.head.bias, "head.1", False)

    def describe(self) -> dict:
        # Without torch's second biases, which are zero here.
        counted = [one.numel() for name, one in self.named_parameters() if "bias_hh" not in name]
        return {"versions": f"torch {torch.__version__}", "parameters": sum(counted)}

    def results(self, search: str) -> dict:
        ids, log_probs = getattr(self, search)(self.source)
        return {"ids": ids.tolist(), "log_probs": log_probs.tolist()}

    def run(self, search: str) -> float:
        return work.milliseconds(lambda: getattr(self, search)(self.source))

    def memory(self, search: str) -> float:
        run = torch.inference_mode()(self.encode) if search == "encoder" else getattr(self, search)
        return work.peak_megabytes(lambda: run(self.source))


def main() -> None:
    model = Torch(sys.argv[1]).eval()
    if sys.argv[2] == "compiled":
        model.step = torch.compile(model.step)
    names = ("describe", "results", "run", "memory")
    serve({name: getattr(model, name) for name in names})


if __name__ == "__main__":
    main()
