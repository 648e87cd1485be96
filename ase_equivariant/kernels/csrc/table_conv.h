// The convolution of one centre with tabulated weights, and its gradients.
//
// Weights are functions of the distance, evaluated where they are used: `Radial` says how the table holds them. The
// backward pass gathers features of the neighbours and adds to their gradients; for one centre and channel
// H[m1, m2] = sum over m3 of C[m1, m2, m3] g[m3] is common to all edges, and with it
//   x-gradient[m1] = w sum over m2 of H[m1, m2] Y[m2],   Y-gradient[m2] = sum over m1 of w x[m1] H[m1, m2].
#pragma once
#include "conv.h"
#include "couplings.h"
#include "network.h"
#include "vector.h"

namespace {

constexpr int EDGES = 16;                              // of one centre, handled together
constexpr int DEGREE = sizeof(REAL) == 4 ? 3 : 5;      // of the tables' polynomials
constexpr int CELL = (DEGREE + 1) * LANES;             // elements of a table for one chunk of weights
constexpr int MAX_Y = (MAX_L + 1) * (MAX_L + 1), MAX_COMPONENTS = 2 * MAX_L + 1;

struct EdgeTile {
    int edges;
    const REAL *x[EDGES];      // features of the neighbours
    REAL *dx[EDGES];           // backward: their gradients, added to
    const REAL *cell[EDGES];   // the edges' rows of the table
    REAL t[EDGES];             // position in the interval
    int64_t table_row;         // distance of two rows
    const REAL *y[EDGES];      // harmonics
    REAL y_lanes[MAX_Y * EDGES];  // component m of edge e at m * EDGES + e
    Vector dy[EDGES * MAX_Y];  // backward: gradients by harmonics, lane by lane
    Vector dt[EDGES];          // and by position
};

// A row for each interval, in it the coefficients of each chunk's polynomials.
struct Polynomials {
    static constexpr int STEP = CELL;  // from chunk to chunk

    // The cells of the next chunk lie behind this one's, also those of the next path.
    static void prefetch_next(const REAL *c) {
        for (int line = 0; line < CELL * int(sizeof(REAL)); line += 64)
            __builtin_prefetch(reinterpret_cast<const char *>(c + CELL) + line);
    }
    static Vector value(const EdgeTile &tile, int e, int64_t at) {
        const REAL *const c = tile.cell[e] + at;
        const REAL t = tile.t[e];
        prefetch_next(c);
        Vector value = load(c + DEGREE * LANES);
        unroll<DEGREE>([&](auto i) { value = value * t + load(c + (DEGREE - 1 - i) * LANES); });
        return value;
    }
    static void value_and_slope(const EdgeTile &tile, int e, int64_t at, Vector &value, Vector &slope) {
        const REAL *const c = tile.cell[e] + at;
        const REAL t = tile.t[e];
        prefetch_next(c);
        value = load(c + DEGREE * LANES);
        slope = Vector{};
        unroll<DEGREE>([&](auto i) {
            slope = slope * t + value;
            value = value * t + load(c + (DEGREE - 1 - i) * LANES);
        });
    }
};

// M[m1, m3] = sum over m2 of C[m1, m2, m3] Y[m2] for the edges of a tile, lane by lane
template <class C>
inline __attribute__((always_inline)) void coupling_matrices(const REAL *couplings, const REAL *y, REAL *matrices) {
    each<C::unrolled, C::num_pairs>([&](auto pair) {
        const int p = pair, t = C::list.first[p];
        const Term a = C::list.term[t], b = C::list.term[t + 1];
        const REAL ca = couplings[(a.m1 * C::D2 + a.m2) * C::D3 + a.m3];
        if (C::list.first[p + 1] == t + 1)
            for (int e = 0; e < EDGES; e++) matrices[p * EDGES + e] = ca * y[a.m2 * EDGES + e];
        else {
            const REAL cb = couplings[(b.m1 * C::D2 + b.m2) * C::D3 + b.m3];
            for (int e = 0; e < EDGES; e++) matrices[p * EDGES + e] = ca * y[a.m2 * EDGES + e] + cb * y[b.m2 * EDGES + e];
        }
    });
}

template <class C, class Radial> void table_forward(const NetworkPath &path, const EdgeTile &tile, REAL *row) {
    alignas(64) REAL matrices[C::D1 * C::D3 * EDGES];
    const REAL *const couplings = static_cast<const REAL *>(path.couplings);
    const REAL *const y = tile.y_lanes + path.y_offset * EDGES;
    coupling_matrices<C>(couplings, y, matrices);
    for (int64_t chunk = 0; chunk < path.chunks; chunk++) {
        const int64_t u = chunk * LANES, at = path.table_offset + chunk * Radial::STEP;
        Vector sum[C::D3];
        each<C::unrolled, C::D3>([&](auto k) { sum[k] = load(row + path.out_offset + k * path.out_stride + u); });
        for (int e = 0; e < tile.edges; e++) {
            const REAL *const M = matrices + e, *const x = tile.x[e] + path.x_offset + u;
            const Vector w = Radial::value(tile, e, at);
            Vector a[C::D1], message[C::D3] = {};
            each<C::unrolled, C::D1>([&](auto i) { a[i] = load(x + i * path.x_stride); });
            each<C::unrolled, C::num_pairs>([&](auto pair) {
                const Term term = C::list.pair[pair];
                message[term.m3] += a[term.m1] * M[pair * EDGES];
            });
            each<C::unrolled, C::D3>([&](auto k) { sum[k] += w * message[k]; });
        }
        each<C::unrolled, C::D3>([&](auto k) { store(row + path.out_offset + k * path.out_stride + u, sum[k]); });
    }
}

// H[m1, m2] = sum over m3 of C[m1, m2, m3] g[m3] for one chunk of channels
template <class C>
inline __attribute__((always_inline)) void couple_gradient(const NetworkPath &path, const REAL *g_row, int64_t u, Vector *H) {
    const REAL *const couplings = static_cast<const REAL *>(path.couplings);
    Vector g[C::D3];
    each<C::unrolled, C::D3>([&](auto k) { g[k] = load(g_row + path.out_offset + k * path.out_stride + u); });
    each<C::unrolled, C::by_harmonic.num_pairs>([&](auto pair) {
        const int p = pair, t = C::by_harmonic.first[p];
        const Term a = C::by_harmonic.term[t], b = C::by_harmonic.term[t + 1];
        H[p] = g[a.m3] * couplings[(a.m1 * C::D2 + a.m2) * C::D3 + a.m3];
        if (C::by_harmonic.first[p + 1] == t + 2) H[p] += g[b.m3] * couplings[(b.m1 * C::D2 + b.m2) * C::D3 + b.m3];
    });
}

template <class C, class Radial, bool TO_FEATURES> void table_backward(const NetworkPath &path, EdgeTile &tile, const REAL *g_row, int64_t dim_y) {
    for (int64_t chunk = 0; chunk < path.chunks; chunk++) {
        const int64_t u = chunk * LANES, at = path.table_offset + chunk * Radial::STEP;
        Vector H[C::by_harmonic.num_pairs];
        couple_gradient<C>(path, g_row, u, H);
        for (int e = 0; e < tile.edges; e++) {
            const REAL *const x = tile.x[e] + path.x_offset + u, *const y = tile.y[e] + path.y_offset;
            Vector *const dy_edge = tile.dy + e * dim_y + path.y_offset;
            Vector w, slope, wx[C::D1], s[C::D1] = {}, dy[C::D2];
            Radial::value_and_slope(tile, e, at, w, slope);
            each<C::unrolled, C::D1>([&](auto i) { wx[i] = w * load(x + i * path.x_stride); });
            if constexpr (C::D2 > 1) each<C::unrolled, C::D2>([&](auto j) { dy[j] = dy_edge[j]; });
            each<C::unrolled, C::by_harmonic.num_pairs>([&](auto pair) {
                const Term term = C::by_harmonic.pair[pair];
                s[term.m1] += H[pair] * y[term.m2];
                if constexpr (C::D2 > 1) dy[term.m2] += wx[term.m1] * H[pair];
            });
            if constexpr (C::D2 > 1) each<C::unrolled, C::D2>([&](auto j) { dy_edge[j] = dy[j]; });
            Vector dw = {};
            each<C::unrolled, C::D1>([&](auto i) { dw += load(x + i * path.x_stride) * s[i]; });
            tile.dt[e] += dw * slope;
            if constexpr (TO_FEATURES) {
                REAL *const dx = tile.dx[e] + path.x_offset + u;
                each<C::unrolled, C::D1>([&](auto i) { store(dx + i * path.x_stride, load(dx + i * path.x_stride) + w * s[i]); });
            }
        }
    }
}

struct TableKernels {
    void (*forward)(const NetworkPath &, const EdgeTile &, REAL *);
    void (*backward[2])(const NetworkPath &, EdgeTile &, const REAL *, int64_t);  // not to, to features
    template <class C> static constexpr TableKernels make() {
        return {table_forward<C, Polynomials>, {table_backward<C, Polynomials, false>, table_backward<C, Polynomials, true>}};
    }
};

// Kernels of every product that the selection rule allows.
template <class Kernels> struct KernelTable {
    Kernels of[MAX_L + 1][MAX_L + 1][MAX_L + 1] = {};
    constexpr KernelTable() {
        unroll<MAX_L + 1>([&](auto l1) {
            unroll<MAX_L + 1>([&](auto l2) {
                unroll<MAX_L + 1>([&](auto l3) {
                    if constexpr (l3.value >= magnitude(l1.value - l2.value) && l3.value <= l1.value + l2.value)
                        of[l1][l2][l3] = Kernels::template make<Couplings<l1.value, l2.value, l3.value>>();
                });
            });
        });
    }
    const Kernels &operator[](const NetworkPath &path) const { return of[path.l1][path.l2][path.l3]; }
};

constexpr KernelTable<TableKernels> TABLE_KERNELS;

}  // namespace
