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

// The atoms of a block in groups that share a matrix.
struct Groups {
    int64_t order[BLOCK], end[BLOCK], count;
    Groups(const Linear &linear, const int64_t *species, int64_t atoms) : count(1) {
        for (int64_t i = 0; i < atoms; i++) order[i] = i;
        end[0] = atoms;
        if (!linear.per_species) return;
        count = 0;
        int64_t placed = 0;
        bool done[BLOCK] = {};
        for (int64_t i = 0; i < atoms; i++) {
            if (done[i]) continue;
            for (int64_t j = i; j < atoms; j++)
                if (species[j] == species[i]) { order[placed++] = j; done[j] = true; }
            end[count++] = placed;
        }
    }
};

constexpr int MAX_ROWS = BLOCK * 9;  // of a block's atoms, with all components

// out += linear(in), or in += linear^T(out), for `count` atoms, whose species decide if the layer asks for them.
template <bool TRANSPOSED> void apply(const Linear &linear, Rows in, Rows out, const int64_t *species, int64_t count) {
    const REAL *from[MAX_ROWS];
    REAL *to[MAX_ROWS];
    const Groups groups(linear, species, count);
    for (int64_t b = 0; b < linear.num_blocks; b++) {
        const LinearBlock &block = linear.blocks[b];
        for (int64_t g = 0, first = 0; g < groups.count; first = groups.end[g++]) {
            int64_t rows = 0;
            for (int64_t i = first; i < groups.end[g]; i++)
                for (int64_t m = 0; m < block.components; m++, rows++) {
                    REAL *const a = in[groups.order[i]] + block.in_offset + m * block.in_stride;
                    REAL *const c = out[groups.order[i]] + block.out_offset + m * block.out_stride;
                    from[rows] = TRANSPOSED ? c : a;
                    to[rows] = TRANSPOSED ? a : c;
                }
            const int64_t s = linear.per_species ? species[groups.order[first]] : 0;
            if (TRANSPOSED)
                gemm(from, to, rows, static_cast<const REAL *>(block.transposed) + s * block.n * block.padded_k, block.n, block.padded_k);
            else
                gemm(from, to, rows, static_cast<const REAL *>(block.weight) + s * block.k * block.n, block.k, block.n);
        }
    }
}

// sum[i .. i + R)[0 .. V * LANES) += sum over rows of x[row][i ..] g[row][..]
template <int R, int V> void outer_tile(const REAL *const *x, const REAL *const *g, int64_t rows, int64_t i, int64_t column, REAL *sum, int64_t n) {
    Vector total[R][V];
    unroll<R>([&](auto r) { unroll<V>([&](auto v) { total[r][v] = load(sum + (i + r) * n + column + v * LANES); }); });
    for (int64_t row = 0; row < rows; row++) {
        Vector right[V];
        unroll<V>([&](auto v) { right[v] = load(g[row] + column + v * LANES); });
        unroll<R>([&](auto r) {
            const REAL a = x[row][i + r];
            unroll<V>([&](auto v) { total[r][v] += a * right[v]; });
        });
    }
    unroll<R>([&](auto r) { unroll<V>([&](auto v) { store(sum + (i + r) * n + column + v * LANES, total[r][v]); }); });
}

// sum (k, n) += sum over rows of outer(x[row][:k], g[row][:n]), with k and n multiples of LANES or k of any size
void outer(const REAL *const *x, const REAL *const *g, int64_t rows, REAL *sum, int64_t k, int64_t n) {
    int64_t column = 0;
    const auto columns = [&](auto width) {
        int64_t i = 0;
        for (; i + GEMM_ROWS <= k; i += GEMM_ROWS) outer_tile<GEMM_ROWS, width.value>(x, g, rows, i, column, sum, n);
        for (; i < k; i++) outer_tile<1, width.value>(x, g, rows, i, column, sum, n);
        column += width.value * LANES;
    };
    while (column + GEMM_VECTORS * LANES <= n) columns(Index<GEMM_VECTORS>());
    if constexpr (GEMM_VECTORS == 3)
        if (column + 2 * LANES <= n) columns(Index<2>());
    if (column < n) columns(Index<1>());
}

// The gradient by a layer's matrices += sum over atoms of in (x) g; it lies `to_gradient` bytes from the matrices.
void add_weight_gradient(const Linear &linear, Rows in, Rows g, const int64_t *species, int64_t count, int64_t to_gradient) {
    const REAL *x[MAX_ROWS], *y[MAX_ROWS];
    const Groups groups(linear, species, count);
    for (int64_t b = 0; b < linear.num_blocks; b++) {
        const LinearBlock &block = linear.blocks[b];
        for (int64_t k = 0, first = 0; k < groups.count; first = groups.end[k++]) {
            int64_t rows = 0;
            for (int64_t i = first; i < groups.end[k]; i++)
                for (int64_t m = 0; m < block.components; m++, rows++) {
                    x[rows] = in[groups.order[i]] + block.in_offset + m * block.in_stride;
                    y[rows] = g[groups.order[i]] + block.out_offset + m * block.out_stride;
                }
            const int64_t s = linear.per_species ? species[groups.order[first]] : 0;
            const REAL *const weight = static_cast<const REAL *>(block.weight) + s * block.k * block.n;
            outer(x, y, rows, reinterpret_cast<REAL *>(reinterpret_cast<intptr_t>(weight) + to_gradient), block.k, block.n);
        }
    }
}

}  // namespace
