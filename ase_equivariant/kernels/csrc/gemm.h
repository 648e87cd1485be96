// Products of scattered rows with a small matrix, the work of the linear layers.
#pragma once
#include "network.h"
#include "vector.h"

namespace {

constexpr int GEMM_ROWS = VECTOR_BYTES == 64 ? 8 : 4, GEMM_VECTORS = VECTOR_BYTES == 64 ? 3 : 2;

// out[r][0 .. V * LANES) += in[r][:k] . b for R rows; the sums stay in registers.
template <int R, int V> void gemm_tile(const REAL *const *in, REAL *const *out, int64_t column, const REAL *b, int64_t k, int64_t n) {
    Vector sum[R][V];
    unroll<R>([&](auto r) { unroll<V>([&](auto v) { sum[r][v] = load(out[r] + column + v * LANES); }); });
    for (int64_t i = 0; i < k; i++) {
        Vector row[V];
        unroll<V>([&](auto v) { row[v] = load(b + i * n + column + v * LANES); });
        unroll<R>([&](auto r) {
            const REAL a = in[r][i];
            unroll<V>([&](auto v) { sum[r][v] += a * row[v]; });
        });
    }
    unroll<R>([&](auto r) { unroll<V>([&](auto v) { store(out[r] + column + v * LANES, sum[r][v]); }); });
}

template <int V> void gemm_columns(const REAL *const *in, REAL *const *out, int64_t rows, int64_t column, const REAL *b, int64_t k, int64_t n) {
    int64_t r = 0;
    for (; r + GEMM_ROWS <= rows; r += GEMM_ROWS) gemm_tile<GEMM_ROWS, V>(in + r, out + r, column, b, k, n);
    if constexpr (GEMM_ROWS == 8)
        if (r + 4 <= rows) { gemm_tile<4, V>(in + r, out + r, column, b, k, n); r += 4; }
    if (r + 2 <= rows) { gemm_tile<2, V>(in + r, out + r, column, b, k, n); r += 2; }
    if (r < rows) gemm_tile<1, V>(in + r, out + r, column, b, k, n);
}

// out[r][:n] += in[r][:k] . b, with b (k, n) and n a multiple of LANES.
void gemm(const REAL *const *in, REAL *const *out, int64_t rows, const REAL *b, int64_t k, int64_t n) {
    int64_t column = 0;
    for (; column + GEMM_VECTORS * LANES <= n; column += GEMM_VECTORS * LANES)
        gemm_columns<GEMM_VECTORS>(in, out, rows, column, b, k, n);
    if constexpr (GEMM_VECTORS == 3)
        if (column + 2 * LANES <= n) { gemm_columns<2>(in, out, rows, column, b, k, n); column += 2 * LANES; }
    if (column < n) gemm_columns<1>(in, out, rows, column, b, k, n);
}

// Rows of the atoms of a block in an array, one after the other.
struct Rows {
    REAL *base;
    int64_t stride;
    REAL *operator[](int64_t atom) const { return base + atom * stride; }
};

// out += linear(in), or in += linear^T(out), for `count` atoms, whose species decide if the layer asks for them.
template <bool TRANSPOSED> void apply(const Linear &linear, Rows in, Rows out, const int64_t *species, int64_t count) {
    const REAL *from[BLOCK * 9];
    REAL *to[BLOCK * 9];
    int64_t order[BLOCK], groups = 1, group_end[BLOCK] = {count};
    for (int64_t i = 0; i < count; i++) order[i] = i;
    if (linear.per_species) {
        groups = 0;
        int64_t placed = 0;
        bool done[BLOCK] = {};
        for (int64_t i = 0; i < count; i++) {
            if (done[i]) continue;
            for (int64_t j = i; j < count; j++)
                if (species[j] == species[i]) { order[placed++] = j; done[j] = true; }
            group_end[groups++] = placed;
        }
    }
    for (int64_t b = 0; b < linear.num_blocks; b++) {
        const LinearBlock &block = linear.blocks[b];
        for (int64_t g = 0, first = 0; g < groups; first = group_end[g++]) {
            int64_t rows = 0;
            for (int64_t i = first; i < group_end[g]; i++)
                for (int64_t m = 0; m < block.components; m++, rows++) {
                    REAL *const a = in[order[i]] + block.in_offset + m * block.in_stride;
                    REAL *const c = out[order[i]] + block.out_offset + m * block.out_stride;
                    from[rows] = TRANSPOSED ? c : a;
                    to[rows] = TRANSPOSED ? a : c;
                }
            const int64_t s = linear.per_species ? species[order[first]] : 0;
            if (TRANSPOSED)
                gemm(from, to, rows, static_cast<const REAL *>(block.transposed) + s * block.n * block.padded_k, block.n, block.padded_k);
            else
                gemm(from, to, rows, static_cast<const REAL *>(block.weight) + s * block.k * block.n, block.k, block.n);
        }
    }
}

}  // namespace
