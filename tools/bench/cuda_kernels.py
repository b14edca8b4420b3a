"""What torch.compile makes of the operators of //kernels:cuda_benchmark, at the same sizes, timed in the same way.

  python3 tools/bench/cuda_kernels.py     needs torch with CUDA and Triton; prints one line per operator

Run it beside cuda_benchmark on the same GPU: docs/performance.md has both. Times are means of 40 calls after 5, with the
host's; backward is that of autograd alone, its graph kept.
"""

import time

import torch
import torch._functorch.config
import torch.nn.functional as F

# A kept graph's buffers are used again by the next backward.
torch._functorch.config.donated_buffer = False

TOKENS, DIM, FFN_DIM, VOCAB = 8192, 4096, 14336, 128256


def seconds(call, warmup=5, runs=40):
    for _ in range(warmup):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(runs):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / runs


def row(name, call):
    print(f"| {name} | {seconds(call) * 1e6:.1f} us |", flush=True)


def rows(name, function, *inputs):
    """Forward, and backward."""
    compiled = torch.compile(function)
    with torch.no_grad():
        row(name + " forward", lambda: compiled(*inputs))
    leaves = [x.detach().requires_grad_() for x in inputs]
    output = compiled(*leaves)
    gradient = torch.ones_like(output)

    def backward():
        for leaf in leaves:
            leaf.grad = None
        output.backward(gradient, retain_graph=True)

    row(name + " backward", backward)


def random(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, device="cuda", dtype=dtype)


def norm_rows():
    x, branch, weight = random(TOKENS, DIM), random(TOKENS, DIM), random(DIM)
    rows("rms_norm", lambda x, w: F.rms_norm(x, (DIM,), w, 1e-5), x, weight)
    rows("add_rms_norm", lambda b, x, w: F.rms_norm(b + x, (DIM,), w, 1e-5), branch, x, weight)


def gate_rows():
    rows("swiglu", lambda a, b: F.silu(a) * b, random(TOKENS, FFN_DIM), random(TOKENS, FFN_DIM))


def rope_rows():
    angles = random(1, TOKENS, 1, 64, dtype=torch.float32)
    cos, sin = angles.cos(), angles.sin()

    def rope(q):
        first, second = q.float().chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(q.dtype)

    rows("rope of q", rope, random(1, TOKENS, 32, 128))


def optimizer_rows():
    size = 218_112_000
    p = torch.nn.Parameter(random(size, dtype=torch.float32))
    p.grad = random(size, dtype=torch.float32)
    copy = random(size)
    optimizer = torch.optim.AdamW([p], lr=torch.tensor(1e-4, device="cuda"), betas=(0.9, 0.95), weight_decay=0.1, capturable=True)
    optimizer.step()

    @torch.compile
    def step():
        p.grad.mul_(0.99999)  # clipping
        optimizer.step()
        copy.copy_(p.detach())

    row("adamw with a bf16 copy", step)
    norm = torch.compile(torch.nn.utils.get_total_norm)
    row("global_norm", lambda: norm([p.grad]))


def float8_rows():
    x = random(TOKENS, FFN_DIM)

    def tensorwise(x):
        scale = 448.0 / x.abs().amax().float()
        values = (x.float() * scale).clamp(-448, 448).to(torch.float8_e4m3fn)
        return values, values.t().contiguous(), 1 / scale

    def rowwise(x):
        def quantize(x):
            scale = torch.exp2(torch.floor(torch.log2(448.0 / x.abs().amax(-1, keepdim=True).float())))
            return (x.float() * scale).clamp(-448, 448).to(torch.float8_e4m3fn), 1 / scale

        return quantize(x), quantize(x.t().contiguous())

    for name, function in [("tensorwise", tensorwise), ("rowwise", rowwise)]:
        compiled = torch.compile(function)
        with torch.no_grad():
            row(f"float8 {name}, both layouts", lambda: compiled(x))


def embedding_rows():
    table = random(VOCAB, DIM)
    ids = torch.randint(VOCAB, (TOKENS,), device="cuda")
    rows("embedding", lambda weight: F.embedding(ids, weight), table)


def loss_row():
    hidden, weight = random(4096, DIM), random(VOCAB, DIM) * 0.02
    labels = torch.randint(VOCAB, (4096,), device="cuda")
    loss = torch.compile(lambda h, w: F.cross_entropy((h @ w.t()).float(), labels, reduction="sum"))

    def both():
        h, w = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
        loss(h, w).backward()

    row("output projection and loss, 4096 tokens, forward and backward", both)


def main():
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}\n\n| operator | torch.compile |\n|---|---|")
    norm_rows()
    gate_rows()
    rope_rows()
    optimizer_rows()
    float8_rows()
    embedding_rows()
    loss_row()


if __name__ == "__main__":
    main()
