// The convolution of one centre for training: weights are cubic B-splines of the distance, whose coefficients are
// the table, and besides value and gradients there are their derivatives along a tangent (of harmonics, positions in
// the table, features), with gradients by the coefficients. A tangent is marked by a "t".
#pragma once
#include "table_conv.h"

namespace {

constexpr int SPLINE = 4;  // coefficients that count in an interval

struct SplineTile : EdgeTile {
    REAL b[EDGES][SPLINE], slope[EDGES][SPLINE];  // basis functions and their derivatives at t
    const REAL *tx[EDGES], *ty[EDGES];
    REAL tt[EDGES];
    REAL ty_lanes[MAX_Y * EDGES];
    REAL *gradient[EDGES];                        // the edges' rows of the table's gradient

    void set_basis(int e) {
        const REAL s = t[e], q = 1 - s, sixth = REAL(1) / 6;
        b[e][0] = sixth * q * q * q;
        b[e][1] = sixth * (4 - 6 * s * s + 3 * s * s * s);
        b[e][2] = sixth * (4 - 6 * q * q + 3 * q * q * q);
        b[e][3] = sixth * s * s * s;
        slope[e][0] = -q * q / 2;
        slope[e][1] = s * (3 * s - 4) / 2;
        slope[e][2] = -q * (3 * q - 4) / 2;
        slope[e][3] = s * s / 2;
    }
};

// A row for each basis function, in it the weights of each chunk; an edge's first row is that of its interval.
struct Splines {
    static constexpr int STEP = LANES;

    static Vector value(const EdgeTile &base, int e, int64_t at) {
        const SplineTile &tile = static_cast<const SplineTile &>(base);
        Vector value = {};
        unroll<SPLINE>([&](auto k) { value += tile.b[e][k] * load(tile.cell[e] + k * tile.table_row + at); });
        return value;
    }
    static void value_and_slope(const EdgeTile &base, int e, int64_t at, Vector &value, Vector &slope) {
        const SplineTile &tile = static_cast<const SplineTile &>(base);
        value = slope = Vector{};
        unroll<SPLINE>([&](auto k) {
            const Vector c = load(tile.cell[e] + k * tile.table_row + at);
            value += tile.b[e][k] * c;
            slope += tile.slope[e][k] * c;
        });
    }
};

// row += tangent of sum over edges of w x (x) Y
template <class C> void spline_tangent_forward(const NetworkPath &path, const SplineTile &tile, REAL *row) {
    alignas(64) REAL M[C::D1 * C::D3 * EDGES], tM[C::D1 * C::D3 * EDGES];
    const REAL *const couplings = static_cast<const REAL *>(path.couplings);
    coupling_matrices<C>(couplings, tile.y_lanes + path.y_offset * EDGES, M);
    if constexpr (C::D2 > 1) coupling_matrices<C>(couplings, tile.ty_lanes + path.y_offset * EDGES, tM);
    for (int64_t chunk = 0; chunk < path.chunks; chunk++) {
        const int64_t u = chunk * LANES, at = path.table_offset + u;
        Vector sum[C::D3];
        each<C::unrolled, C::D3>([&](auto k) { sum[k] = load(row + path.out_offset + k * path.out_stride + u); });
        for (int e = 0; e < tile.edges; e++) {
            const REAL *const x = tile.x[e] + path.x_offset + u, *const tx = tile.tx[e] + path.x_offset + u;
            Vector w, tw, a[C::D1], ta[C::D1];
            Splines::value_and_slope(tile, e, at, w, tw);
            tw *= tile.tt[e];
            each<C::unrolled, C::D1>([&](auto i) {
                const Vector xi = load(x + i * path.x_stride);
                a[i] = w * xi;
                ta[i] = tw * xi + w * load(tx + i * path.x_stride);
            });
            each<C::unrolled, C::num_pairs>([&](auto pair) {
                const Term term = C::list.pair[pair];
                sum[term.m3] += ta[term.m1] * M[pair * EDGES + e];
                if constexpr (C::D2 > 1) sum[term.m3] += a[term.m1] * tM[pair * EDGES + e];
            });
        }
        each<C::unrolled, C::D3>([&](auto k) { store(row + path.out_offset + k * path.out_stride + u, sum[k]); });
    }
}

// Tangents of the gradients by features (added to dx) and by the table's coefficients, from the gradient g by the
// convolution's result and its tangent tg.
template <class C>
void spline_tangent_backward(const NetworkPath &path, SplineTile &tile, const REAL *g_row, const REAL *tg_row) {
    for (int64_t chunk = 0; chunk < path.chunks; chunk++) {
        const int64_t u = chunk * LANES, at = path.table_offset + u;
        Vector H[C::by_harmonic.num_pairs], tH[C::by_harmonic.num_pairs];
        couple_gradient<C>(path, g_row, u, H);
        couple_gradient<C>(path, tg_row, u, tH);
        for (int e = 0; e < tile.edges; e++) {
            const REAL *const x = tile.x[e] + path.x_offset + u, *const tx = tile.tx[e] + path.x_offset + u;
            const REAL *const y = tile.y[e] + path.y_offset, *const ty = tile.ty[e] + path.y_offset;
            Vector s[C::D1] = {}, ts[C::D1] = {};
            each<C::unrolled, C::by_harmonic.num_pairs>([&](auto pair) {
                const Term term = C::by_harmonic.pair[pair];
                s[term.m1] += H[pair] * y[term.m2];
                ts[term.m1] += tH[pair] * y[term.m2];
                if constexpr (C::D2 > 1) ts[term.m1] += H[pair] * ty[term.m2];
            });
            Vector dw = {}, tdw = {};
            each<C::unrolled, C::D1>([&](auto i) {
                const Vector xi = load(x + i * path.x_stride);
                dw += xi * s[i];
                tdw += xi * ts[i] + load(tx + i * path.x_stride) * s[i];
            });
            const REAL tt = tile.tt[e];
            Vector w, tw;
            Splines::value_and_slope(tile, e, at, w, tw);
            tw *= tt;
            REAL *const dx = tile.dx[e] + path.x_offset + u;
            each<C::unrolled, C::D1>([&](auto i) {
                store(dx + i * path.x_stride, load(dx + i * path.x_stride) + tw * s[i] + w * ts[i]);
            });
            dw *= tt;
            unroll<SPLINE>([&](auto k) {
                REAL *const c = tile.gradient[e] + k * tile.table_row + at;
                store(c, load(c) + tile.b[e][k] * tdw + tile.slope[e][k] * dw);
            });
        }
    }
}

struct SplineKernels {
    void (*forward)(const NetworkPath &, const EdgeTile &, REAL *);
    void (*backward[2])(const NetworkPath &, EdgeTile &, const REAL *, int64_t);
    void (*tangent_forward)(const NetworkPath &, const SplineTile &, REAL *);
    void (*tangent_backward)(const NetworkPath &, SplineTile &, const REAL *, const REAL *);
    template <class C> static constexpr SplineKernels make() {
        return {table_forward<C, Splines>, {table_backward<C, Splines, false>, table_backward<C, Splines, true>},
                spline_tangent_forward<C>, spline_tangent_backward<C>};
    }
};

constexpr KernelTable<SplineKernels> SPLINE_KERNELS;

}  // namespace
