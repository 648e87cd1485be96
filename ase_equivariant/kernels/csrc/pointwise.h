// What happens to one atom's row: normalization, gate, and their gradients.
#pragma once
#include <cmath>

#include "functions.h"
#include "network.h"

namespace {

// f(component row, block) over the rows of all norm blocks
REAL inverse_rms(const NetworkLayer &layer, const REAL *pre) {
    double mean_square = layer.norm_epsilon;
    for (int64_t b = 0; b < layer.num_norms; b++) {
        const NormBlock &block = layer.norms[b];
        Vector sum = {};
        for (int64_t u = 0; u < block.components * block.width; u += LANES) {
            const Vector x = load(pre + block.offset + u);
            sum += x * x;
        }
        mean_square += block.coefficient * double(sum_of(sum));
    }
    return REAL(1 / std::sqrt(mean_square));
}

// out = pre * scale / rms
void normalize(const NetworkLayer &layer, const REAL *pre, REAL *out) {
    const REAL inverse = inverse_rms(layer, pre);
    for (int64_t b = 0; b < layer.num_norms; b++) {
        const NormBlock &block = layer.norms[b];
        for (int64_t m = 0; m < block.components; m++)
            for (int64_t u = 0; u < block.width; u += LANES) {
                const int64_t at = block.offset + m * block.width + u;
                store(out + at, load(pre + at) * load(static_cast<const REAL *>(block.scale) + u) * inverse);
            }
    }
}

// g, the gradient by the normalized row, becomes that by `pre`: g scale / rms - pre (g . scale pre) coefficient / rms^3
void normalize_gradient(const NetworkLayer &layer, const REAL *pre, REAL *g) {
    const REAL inverse = inverse_rms(layer, pre);
    Vector sum = {};
    for (int64_t b = 0; b < layer.num_norms; b++) {
        const NormBlock &block = layer.norms[b];
        for (int64_t m = 0; m < block.components; m++)
            for (int64_t u = 0; u < block.width; u += LANES) {
                const int64_t at = block.offset + m * block.width + u;
                const Vector scaled = load(g + at) * load(static_cast<const REAL *>(block.scale) + u);
                sum += scaled * load(pre + at);
                store(g + at, scaled * inverse);
            }
    }
    const double factor = double(sum_of(sum)) * double(inverse) * double(inverse) * double(inverse);
    for (int64_t b = 0; b < layer.num_norms; b++) {
        const NormBlock &block = layer.norms[b];
        const REAL c = REAL(factor * block.coefficient);
        for (int64_t u = 0; u < block.components * block.width; u += LANES) {
            const int64_t at = block.offset + u;
            store(g + at, load(g + at) - c * load(pre + at));
        }
    }
}

void gate(const NetworkLayer &layer, const REAL *pre, REAL *out) {
    for (int64_t b = 0; b < layer.num_gates; b++) {
        const GateBlock &block = layer.gates[b];
        for (int64_t u = 0; u < block.width; u += LANES) {
            const REAL *x = pre + block.in_offset + u;
            REAL *y = out + block.out_offset + u;
            if (block.kind == SILU) store(y, silu(load(x)));
            else if (block.kind == TANH) store(y, TANH_MOMENT * tanh_of(load(x)));
            else {
                const Vector factor = silu(load(pre + block.gate_offset + u));
                for (int64_t m = 0; m < block.components; m++) store(y + m * block.width, factor * load(x + m * block.width));
            }
        }
    }
}

// Writes the gradient by `pre` from g, that by the gate's output.
void gate_gradient(const NetworkLayer &layer, const REAL *pre, const REAL *g, REAL *out) {
    for (int64_t b = 0; b < layer.num_gates; b++) {
        const GateBlock &block = layer.gates[b];
        for (int64_t u = 0; u < block.width; u += LANES) {
            const int64_t in = block.in_offset + u;
            const REAL *dy = g + block.out_offset + u;
            if (block.kind == SILU) store(out + in, load(dy) * silu_slope(load(pre + in)));
            else if (block.kind == TANH) {
                const Vector t = tanh_of(load(pre + in));
                store(out + in, load(dy) * (TANH_MOMENT * (REAL(1) - t * t)));
            } else {
                const Vector z = load(pre + block.gate_offset + u), factor = silu(z);
                Vector sum = {};
                for (int64_t m = 0; m < block.components; m++) {
                    const Vector d = load(dy + m * block.width);
                    sum += d * load(pre + in + m * block.width);
                    store(out + in + m * block.width, d * factor);
                }
                store(out + block.gate_offset + u, sum * silu_slope(z));
            }
        }
    }
}

// Tangent of the gate's output from that of its input.
void gate_tangent(const NetworkLayer &layer, const REAL *pre, const REAL *t_pre, REAL *out) {
    for (int64_t b = 0; b < layer.num_gates; b++) {
        const GateBlock &block = layer.gates[b];
        for (int64_t u = 0; u < block.width; u += LANES) {
            const int64_t in = block.in_offset + u;
            REAL *y = out + block.out_offset + u;
            if (block.kind == SILU) store(y, silu_slope(load(pre + in)) * load(t_pre + in));
            else if (block.kind == TANH) {
                const Vector t = tanh_of(load(pre + in));
                store(y, TANH_MOMENT * (REAL(1) - t * t) * load(t_pre + in));
            } else {
                const Vector z = load(pre + block.gate_offset + u);
                const Vector factor = silu(z), t_factor = silu_slope(z) * load(t_pre + block.gate_offset + u);
                for (int64_t m = 0; m < block.components; m++) {
                    const int64_t at = in + m * block.width;
                    store(y + m * block.width, factor * load(t_pre + at) + t_factor * load(pre + at));
                }
            }
        }
    }
}

// Tangent of what gate_gradient writes, from the gradient g by the output and its tangent tg.
void gate_gradient_tangent(const NetworkLayer &layer, const REAL *pre, const REAL *t_pre, const REAL *g, const REAL *tg, REAL *out) {
    for (int64_t b = 0; b < layer.num_gates; b++) {
        const GateBlock &block = layer.gates[b];
        for (int64_t u = 0; u < block.width; u += LANES) {
            const int64_t in = block.in_offset + u;
            const REAL *dy = g + block.out_offset + u, *t_dy = tg + block.out_offset + u;
            if (block.kind == SILU) {
                const Vector z = load(pre + in);
                store(out + in, load(t_dy) * silu_slope(z) + load(dy) * silu_curvature(z) * load(t_pre + in));
            } else if (block.kind == TANH) {
                const Vector t = tanh_of(load(pre + in)), slope = TANH_MOMENT * (REAL(1) - t * t);
                store(out + in, slope * (load(t_dy) - REAL(2) * t * load(t_pre + in) * load(dy)));
            } else {
                const Vector z = load(pre + block.gate_offset + u), slope = silu_slope(z), factor = silu(z);
                const Vector tz = load(t_pre + block.gate_offset + u), t_factor = slope * tz;
                Vector sum = {}, t_sum = {};
                for (int64_t m = 0; m < block.components; m++) {
                    const Vector d = load(dy + m * block.width), td = load(t_dy + m * block.width);
                    const Vector x = load(pre + in + m * block.width), tx = load(t_pre + in + m * block.width);
                    sum += d * x;
                    t_sum += td * x + d * tx;
                    store(out + in + m * block.width, td * factor + d * t_factor);
                }
                store(out + block.gate_offset + u, t_sum * slope + sum * silu_curvature(z) * tz);
            }
        }
    }
}

}  // namespace
