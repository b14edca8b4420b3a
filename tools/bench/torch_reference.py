"""The debug Llama 3 in Python PyTorch, eager, as torchtitan 0.2.2 writes it: what our step is measured against.

    python torch_reference.py --batch 8 --seq_len 256 --steps 30 --threads 2

Prints one line of JSON: median milliseconds of a step by the clock and by the processor, tokens per second, peak resident
memory. Random tokens, fp32, fused AdamW, gradient clipping. Needs PyTorch and nothing else; no part of the build uses it.
"""

import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn


def rope_table(head_dim, length, theta=500000.0):
    frequencies = 1.0 / (theta ** (torch.arange(0, head_dim, 2).float() / head_dim))
    angles = torch.outer(torch.arange(length).float(), frequencies)
    return torch.polar(torch.ones_like(angles), angles)  # (S, d/2) complex


def rotate(x, table):
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * table[None, : x.shape[1], None]).flatten(3).type_as(x)


class Layer(nn.Module):
    def __init__(self, dim, heads, ffn_dim):
        super().__init__()
        self.head_dim = dim // heads
        self.attention_norm, self.ffn_norm = nn.RMSNorm(dim, eps=1e-5), nn.RMSNorm(dim, eps=1e-5)
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.w1, self.w3 = nn.Linear(dim, ffn_dim, bias=False), nn.Linear(dim, ffn_dim, bias=False)
        self.w2 = nn.Linear(ffn_dim, dim, bias=False)

    def forward(self, x, table):
        batch, length, _ = x.shape
        h = self.attention_norm(x)
        q, k, v = (w(h).view(batch, length, -1, self.head_dim) for w in (self.wq, self.wk, self.wv))
        q, k = rotate(q, table), rotate(k, table)
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
        x = x + self.wo(o.transpose(1, 2).contiguous().view(batch, length, -1))
        h = self.ffn_norm(x)
        return x + self.w2(F.silu(self.w1(h)) * self.w3(h))


class Llama(nn.Module):
    def __init__(self, dim=256, layers=6, heads=16, ffn_dim=768, vocab=2048, length=256):
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocab, dim)
        self.layers = nn.ModuleList(Layer(dim, heads, ffn_dim) for _ in range(layers))
        self.norm, self.output = nn.RMSNorm(dim, eps=1e-5), nn.Linear(dim, vocab, bias=False)
        self.register_buffer("table", rope_table(dim // heads, length))

    def forward(self, tokens):
        x = self.tok_embeddings(tokens)
        for layer in self.layers:
            x = layer(x, self.table)
        return self.output(self.norm(x))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq_len", type=int, default=256)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    model = Llama(length=arguments.seq_len)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    seconds, cpu_seconds, loss = [], [], None
    for _ in range(arguments.steps + 3):
        tokens = torch.randint(2048, (arguments.batch, arguments.seq_len + 1))
        start, cpu_start = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="sum")
        loss = loss / tokens[:, 1:].numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    step = statistics.median(seconds[3:])
    print(
        json.dumps(
            {
                "milliseconds_per_step": round(step * 1e3, 1),
                "fastest_milliseconds": round(min(seconds[3:]) * 1e3, 1),
                "cpu_milliseconds_per_step": round(statistics.median(cpu_seconds[3:]) * 1e3, 1),
                "fastest_cpu_milliseconds": round(min(cpu_seconds[3:]) * 1e3, 1),
                "tokens_per_second": round(arguments.batch * arguments.seq_len / step),
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "loss": round(loss.item(), 3),
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
