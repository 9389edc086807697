# Made by `python docs/generate.py`: change `signatures.py`, not this.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ggrpc.op import Op
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

class Ops(ABC):
    @abstractmethod
    def node(
        self,
        op: Op,
        sources: Sequence[Tensor | None],
        params: Any = None,
        *,
        ne: Sequence[int] | None = None,
        type: GGMLType | None = None,
        over: Tensor | None = None,
        name: str = "",
    ) -> Tensor: ...
    def dup(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def add(
        self,
        a: Tensor,
        b: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def add_id(
        self,
        a: Tensor,
        b: Tensor,
        ids: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def add1(
        self,
        a: Tensor,
        b: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def sub(
        self,
        a: Tensor,
        b: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def mul(
        self,
        a: Tensor,
        b: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def div(
        self,
        a: Tensor,
        b: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def sqr(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def sqrt(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def log(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def sin(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def cos(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def sum(
        self,
        a: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def sum_rows(
        self,
        a: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def cumsum(
        self,
        a: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def mean(
        self,
        a: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def argmax(
        self,
        a: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def count_equal(
        self,
        a: Tensor,
        b: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def repeat(
        self,
        a: Tensor,
        *,
        ne: Sequence[int],
        name: str = "",
    ) -> Tensor: ...
    def repeat_back(
        self,
        a: Tensor,
        *,
        ne: Sequence[int],
        name: str = "",
    ) -> Tensor: ...
    def concat(
        self,
        a: Tensor,
        b: Tensor,
        *,
        dim: int,
        name: str = "",
    ) -> Tensor: ...
    def silu_back(
        self,
        a: Tensor,
        b: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def norm(
        self,
        a: Tensor,
        *,
        eps: float,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def rms_norm(
        self,
        a: Tensor,
        *,
        eps: float,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def rms_norm_back(
        self,
        a: Tensor,
        b: Tensor,
        *,
        eps: float,
        name: str = "",
    ) -> Tensor: ...
    def group_norm(
        self,
        a: Tensor,
        *,
        n_groups: int,
        eps: float,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def l2_norm(
        self,
        a: Tensor,
        *,
        eps: float,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def mul_mat(
        self,
        a: Tensor,
        b: Tensor,
        *,
        prec: int = 0,
        hint: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def mul_mat_id(
        self,
        as_: Tensor,
        b: Tensor,
        ids: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def out_prod(
        self,
        a: Tensor,
        b: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def scale(
        self,
        a: Tensor,
        *,
        scale: float,
        bias: float = 0.0,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def get_rows(
        self,
        a: Tensor,
        b: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def get_rows_back(
        self,
        a: Tensor,
        b: Tensor,
        *,
        ne: Sequence[int],
        name: str = "",
    ) -> Tensor: ...
    def diag(
        self,
        a: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def diag_mask_inf(
        self,
        a: Tensor,
        *,
        n_past: int,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def diag_mask_zero(
        self,
        a: Tensor,
        *,
        n_past: int,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def soft_max(
        self,
        a: Tensor,
        mask: Tensor | None = None,
        sinks: Tensor | None = None,
        *,
        scale: float = 1.0,
        max_bias: float = 0.0,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def soft_max_back(
        self,
        a: Tensor,
        b: Tensor,
        *,
        scale: float = 1.0,
        max_bias: float = 0.0,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def rope(
        self,
        a: Tensor,
        pos: Tensor,
        freq_factors: Tensor | None = None,
        *,
        n_past: int = 0,
        n_dims: int,
        mode: int = 0,
        n_ctx: int = 0,
        n_ctx_orig: int = 0,
        freq_base: float = 10000.0,
        freq_scale: float = 1.0,
        ext_factor: float = 0.0,
        attn_factor: float = 1.0,
        beta_fast: float = 32.0,
        beta_slow: float = 1.0,
        section_t: int = 0,
        section_h: int = 0,
        section_w: int = 0,
        section_e: int = 0,
        n_offs: int = 0,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def rope_back(
        self,
        a: Tensor,
        pos: Tensor,
        freq_factors: Tensor | None = None,
        *,
        n_past: int = 0,
        n_dims: int,
        mode: int = 0,
        n_ctx: int = 0,
        n_ctx_orig: int = 0,
        freq_base: float = 10000.0,
        freq_scale: float = 1.0,
        ext_factor: float = 0.0,
        attn_factor: float = 1.0,
        beta_fast: float = 32.0,
        beta_slow: float = 1.0,
        section_t: int = 0,
        section_h: int = 0,
        section_w: int = 0,
        section_e: int = 0,
        n_offs: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def clamp(
        self,
        a: Tensor,
        *,
        min: float,
        max: float,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def conv_transpose_1d(
        self,
        a: Tensor,
        b: Tensor,
        *,
        s0: int = 1,
        p0: int = 0,
        d0: int = 1,
        name: str = "",
    ) -> Tensor: ...
    def im2col(
        self,
        a: Tensor,
        b: Tensor,
        *,
        s0: int = 1,
        s1: int = 1,
        p0: int = 0,
        p1: int = 0,
        d0: int = 1,
        d1: int = 1,
        is_2d: int = 1,
        type: GGMLType | None = None,
        name: str = "",
    ) -> Tensor: ...
    def im2col_back(
        self,
        a: Tensor,
        b: Tensor,
        *,
        s0: int = 1,
        s1: int = 1,
        p0: int = 0,
        p1: int = 0,
        d0: int = 1,
        d1: int = 1,
        is_2d: int = 1,
        ne: Sequence[int],
        name: str = "",
    ) -> Tensor: ...
    def im2col_3d(
        self,
        a: Tensor,
        b: Tensor,
        *,
        s0: int = 1,
        s1: int = 1,
        s2: int = 1,
        p0: int = 0,
        p1: int = 0,
        p2: int = 0,
        d0: int = 1,
        d1: int = 1,
        d2: int = 1,
        ic: int,
        type: GGMLType | None = None,
        name: str = "",
    ) -> Tensor: ...
    def col2im_1d(
        self,
        a: Tensor,
        *,
        s0: int = 1,
        oc: int,
        p0: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def conv_2d(
        self,
        a: Tensor,
        b: Tensor,
        *,
        s0: int = 1,
        s1: int = 1,
        p0: int = 0,
        p1: int = 0,
        d0: int = 1,
        d1: int = 1,
        name: str = "",
    ) -> Tensor: ...
    def conv_3d(
        self,
        a: Tensor,
        b: Tensor,
        *,
        s0: int = 1,
        s1: int = 1,
        s2: int = 1,
        p0: int = 0,
        p1: int = 0,
        p2: int = 0,
        d0: int = 1,
        d1: int = 1,
        d2: int = 1,
        c: int,
        n: int,
        oc: int,
        name: str = "",
    ) -> Tensor: ...
    def conv_2d_dw(
        self,
        a: Tensor,
        b: Tensor,
        *,
        s0: int = 1,
        s1: int = 1,
        p0: int = 0,
        p1: int = 0,
        d0: int = 1,
        d1: int = 1,
        name: str = "",
    ) -> Tensor: ...
    def conv_transpose_2d(
        self,
        a: Tensor,
        b: Tensor,
        *,
        s0: int = 1,
        name: str = "",
    ) -> Tensor: ...
    def pool_1d(
        self,
        a: Tensor,
        *,
        op: int,
        k0: int,
        s0: int = 1,
        p0: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def pool_2d(
        self,
        a: Tensor,
        *,
        op: int,
        k0: int,
        k1: int,
        s0: int = 1,
        s1: int = 1,
        p0: int = 0,
        p1: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def pool_2d_back(
        self,
        a: Tensor,
        af: Tensor,
        *,
        op: int,
        k0: int,
        k1: int,
        s0: int = 1,
        s1: int = 1,
        p0: int = 0,
        p1: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def upscale(
        self,
        a: Tensor,
        *,
        mode: int = 0,
        ne: Sequence[int],
        name: str = "",
    ) -> Tensor: ...
    def pad(
        self,
        a: Tensor,
        *,
        lp0: int = 0,
        rp0: int = 0,
        lp1: int = 0,
        rp1: int = 0,
        lp2: int = 0,
        rp2: int = 0,
        lp3: int = 0,
        rp3: int = 0,
        circular: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def pad_reflect_1d(
        self,
        a: Tensor,
        *,
        p0: int = 0,
        p1: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def roll(
        self,
        a: Tensor,
        *,
        shift0: int,
        shift1: int = 0,
        shift2: int = 0,
        shift3: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def timestep_embedding(
        self,
        timesteps: Tensor,
        *,
        dim: int,
        max_period: int = 10000,
        name: str = "",
    ) -> Tensor: ...
    def argsort(
        self,
        a: Tensor,
        *,
        order: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def leaky_relu(
        self,
        a: Tensor,
        *,
        negative_slope: float,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def tri(
        self,
        a: Tensor,
        *,
        type: int,
        name: str = "",
    ) -> Tensor: ...
    def fill(
        self,
        a: Tensor,
        *,
        c: float,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def flash_attn_ext(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        sinks: Tensor | None = None,
        *,
        scale: float,
        max_bias: float = 0.0,
        logit_softcap: float = 0.0,
        prec: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def flash_attn_back(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        d: Tensor,
        *,
        masked: int,
        name: str = "",
    ) -> Tensor: ...
    def ssm_conv(
        self,
        sx: Tensor,
        c: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def ssm_scan(
        self,
        s: Tensor,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        ids: Tensor | None = None,
        *,
        k: int = 1,
        name: str = "",
    ) -> Tensor: ...
    def get_rel_pos(
        self,
        a: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def add_rel_pos(
        self,
        a: Tensor,
        pw: Tensor,
        ph: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def rwkv_wkv6(
        self,
        k: Tensor,
        v: Tensor,
        r: Tensor,
        tf: Tensor,
        td: Tensor,
        state: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def gated_linear_attn(
        self,
        k: Tensor,
        v: Tensor,
        q: Tensor,
        g: Tensor,
        state: Tensor,
        *,
        scale: float,
        name: str = "",
    ) -> Tensor: ...
    def rwkv_wkv7(
        self,
        r: Tensor,
        w: Tensor,
        k: Tensor,
        v: Tensor,
        a: Tensor,
        b: Tensor,
        state: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def solve_tri(
        self,
        a: Tensor,
        b: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def gated_delta_net(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        g: Tensor,
        beta: Tensor,
        state: Tensor,
        *,
        K: int = 1,
        name: str = "",
    ) -> Tensor: ...
    def lightning_indexer(
        self,
        q: Tensor,
        k: Tensor,
        weights: Tensor,
        mask: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def dsv4_hc_comb(
        self,
        mixes: Tensor,
        scale: Tensor,
        base: Tensor,
        *,
        eps: float,
        n_iter: int,
        name: str = "",
    ) -> Tensor: ...
    def dsv4_hc_pre(
        self,
        x: Tensor,
        weights: Tensor,
        *,
        scale: float = 1.0,
        gated: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def dsv4_hc_post(
        self,
        x: Tensor,
        residual: Tensor,
        post: Tensor,
        comb: Tensor | None = None,
        *,
        name: str = "",
    ) -> Tensor: ...
    def cross_entropy_loss(
        self,
        a: Tensor,
        b: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def cross_entropy_loss_back(
        self,
        a: Tensor,
        b: Tensor,
        c: Tensor,
        *,
        name: str = "",
    ) -> Tensor: ...
    def abs(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def sgn(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def neg(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def step(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def tanh(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def elu(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def relu(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def sigmoid(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def gelu(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def gelu_quick(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def silu(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def hardswish(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def hardsigmoid(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def exp(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def expm1(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def softplus(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def gelu_erf(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def xielu(
        self,
        a: Tensor,
        *,
        alpha_n: float,
        alpha_p: float,
        beta: float,
        eps: float,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def floor(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def ceil(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def round(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def trunc(
        self,
        a: Tensor,
        *,
        inplace: bool = False,
        name: str = "",
    ) -> Tensor: ...
    def reglu(
        self,
        a: Tensor,
        b: Tensor | None = None,
        *,
        swapped: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def geglu(
        self,
        a: Tensor,
        b: Tensor | None = None,
        *,
        swapped: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def swiglu(
        self,
        a: Tensor,
        b: Tensor | None = None,
        *,
        swapped: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def swiglu_oai(
        self,
        a: Tensor,
        b: Tensor | None = None,
        *,
        swapped: int = 0,
        alpha: float,
        limit: float,
        name: str = "",
    ) -> Tensor: ...
    def geglu_erf(
        self,
        a: Tensor,
        b: Tensor | None = None,
        *,
        swapped: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def geglu_quick(
        self,
        a: Tensor,
        b: Tensor | None = None,
        *,
        swapped: int = 0,
        name: str = "",
    ) -> Tensor: ...
    def swiglu_clamp(
        self,
        a: Tensor,
        b: Tensor | None = None,
        *,
        swapped: int = 0,
        limit: float,
        name: str = "",
    ) -> Tensor: ...
