// The arithmetic of one path on one tile of edges, unrolled over components and vectorized over channels.
//
// A row belongs to one atom: in the forward kernels the result of a centre, in the backward ones the features (and
// their gradient) of a neighbour. The edges of the tile all belong to that row; what they bring from the far atom
// is "gathered". Each edge's coupling matrix M[m1, m3] = sum over m2 of C[m1, m2, m3] Y[m2] is common to all channels.
#pragma once
#include "conv.h"
#include "couplings.h"
#include "vector.h"

namespace {

constexpr int MAX_D = 2 * MAX_L + 1;

// Matrices of a tile: entry `pair` of edge e at [pair * TILE + e].
typedef REAL Matrices[MAX_D * MAX_D * TILE];

struct Tile {
    int edges, chunks;                        // chunks of LANES channels
    const REAL *matrices, *tangent_matrices;  // from y and from its tangent
    const REAL *couplings;
    const REAL *gathered[TILE], *gathered_tangent[TILE];  // forward: x, tx of senders; backward: g of receivers
    ptrdiff_t gathered_stride;
    const REAL *w[TILE], *tw[TILE];
    const REAL *x, *tx;                       // backward: the row's features and their tangent
    ptrdiff_t x_stride;
    REAL *row;                                // forward: out; backward: dx; added to
    ptrdiff_t row_stride;
    REAL *dw[TILE];                           // backward: written
    Vector *dy;                               // backward: lane-wise sums, added to, [m2] of edge e at e * dy_stride
    ptrdiff_t dy_stride;
};

template <class C> void make_matrices(const REAL *couplings, const REAL *y, REAL *matrices) {
    each<C::unrolled, C::num_pairs>([&](auto pair) {
        const int p = pair, t = C::list.first[p];
        const REAL *const y0 = y + C::list.term[t].m2 * TILE, *const y1 = y + C::list.term[t + 1].m2 * TILE;
        if (C::list.first[p + 1] == t + 1)
            for (int e = 0; e < TILE; e++) matrices[p * TILE + e] = couplings[t] * y0[e];
        else
            for (int e = 0; e < TILE; e++) matrices[p * TILE + e] = couplings[t] * y0[e] + couplings[t + 1] * y1[e];
    });
}

// row[m3] += w M x, or its derivative along (tx, ty, tw).
template <class C, bool TANGENT> void forward_tile(const Tile &t) {
    for (int chunk = 0; chunk < t.chunks; chunk++) {
        const ptrdiff_t u = (ptrdiff_t)chunk * LANES;
        Vector sum[C::D3];
        each<C::unrolled, C::D3>([&](auto k) { sum[k] = load(t.row + k * t.row_stride + u); });
        for (int e = 0; e < t.edges; e++) {
            const REAL *M = t.matrices + e, *tM = t.tangent_matrices + e;
            const Vector w = load(t.w[e] + u);
            Vector a[C::D1], b[C::D1], message[C::D3] = {};
            each<C::unrolled, C::D1>([&](auto i) { a[i] = load(t.gathered[e] + i * t.gathered_stride + u); });
            if constexpr (TANGENT) {
                const Vector tw = load(t.tw[e] + u);
                each<C::unrolled, C::D1>([&](auto i) {
                    b[i] = w * a[i];
                    a[i] = w * load(t.gathered_tangent[e] + i * t.gathered_stride + u) + tw * a[i];
                });
            }
            each<C::unrolled, C::num_pairs>([&](auto pair) {
                const Term at = C::list.pair[pair];
                message[at.m3] += a[at.m1] * M[pair * TILE];
                if constexpr (TANGENT) message[at.m3] += b[at.m1] * tM[pair * TILE];
            });
            each<C::unrolled, C::D3>([&](auto k) {
                if constexpr (TANGENT) sum[k] += message[k];
                else sum[k] += w * message[k];
            });
        }
        each<C::unrolled, C::D3>([&](auto k) { store(t.row + k * t.row_stride + u, sum[k]); });
    }
}

// With s = M g: row[m1] += w s, dw = x . s, dy[m2] += C x w g; or the derivative along (tx, ty, tw).
template <class C, bool TANGENT> void backward_tile(const Tile &t) {
    for (int chunk = 0; chunk < t.chunks; chunk++) {
        const ptrdiff_t u = (ptrdiff_t)chunk * LANES;
        Vector sum[C::D1], x[C::D1], tx[C::D1];
        each<C::unrolled, C::D1>([&](auto i) {
            sum[i] = load(t.row + i * t.row_stride + u);
            x[i] = load(t.x + i * t.x_stride + u);
            if constexpr (TANGENT) tx[i] = load(t.tx + i * t.x_stride + u);
        });
        for (int e = 0; e < t.edges; e++) {
            const REAL *M = t.matrices + e, *tM = t.tangent_matrices + e;
            const Vector w = load(t.w[e] + u);
            Vector tw = {};
            if constexpr (TANGENT) tw = load(t.tw[e] + u);
            Vector g[C::D3], wx[C::D1], s[C::D1] = {}, ts[C::D1] = {}, dy[C::D2];
            each<C::unrolled, C::D3>([&](auto k) { g[k] = load(t.gathered[e] + k * t.gathered_stride + u); });
            each<C::unrolled, C::D2>([&](auto j) { dy[j] = t.dy[e * t.dy_stride + j]; });
            each<C::unrolled, C::D1>([&](auto i) {
                if constexpr (TANGENT) wx[i] = w * tx[i] + tw * x[i];
                else wx[i] = w * x[i];
            });
            each<C::unrolled, C::num_pairs>([&](auto pair) {
                const int p = pair, first = C::list.first[p];
                const Term at = C::list.pair[p];
                s[at.m1] += g[at.m3] * M[p * TILE];
                if constexpr (TANGENT) ts[at.m1] += g[at.m3] * tM[p * TILE];
                const Vector product = wx[at.m1] * g[at.m3];
                dy[C::list.term[first].m2] += product * t.couplings[first];
                if (C::list.first[p + 1] == first + 2)
                    dy[C::list.term[first + 1].m2] += product * t.couplings[first + 1];
            });
            Vector dw = {};
            each<C::unrolled, C::D1>([&](auto i) {
                if constexpr (TANGENT) {
                    sum[i] += w * ts[i] + tw * s[i];
                    dw += tx[i] * s[i] + x[i] * ts[i];
                } else {
                    sum[i] += w * s[i];
                    dw += x[i] * s[i];
                }
            });
            store(t.dw[e] + u, dw);
            each<C::unrolled, C::D2>([&](auto j) { t.dy[e * t.dy_stride + j] = dy[j]; });
        }
        each<C::unrolled, C::D1>([&](auto i) { store(t.row + i * t.row_stride + u, sum[i]); });
    }
}

struct TileKernels {
    void (*matrices)(const REAL *, const REAL *, REAL *);
    void (*forward[2])(const Tile &);   // plain, tangent
    void (*backward[2])(const Tile &);
};

template <int L1, int L2, int L3> constexpr TileKernels kernels_of() {
    if constexpr (L3 < magnitude(L1 - L2) || L3 > L1 + L2) return TileKernels{};
    else {
        using C = Couplings<L1, L2, L3>;
        return TileKernels{make_matrices<C>, {forward_tile<C, false>, forward_tile<C, true>},
                           {backward_tile<C, false>, backward_tile<C, true>}};
    }
}

struct KernelTable {
    TileKernels of[MAX_L + 1][MAX_L + 1][MAX_L + 1] = {};
    constexpr KernelTable() {
        unroll<MAX_L + 1>([&](auto l1) {
            unroll<MAX_L + 1>([&](auto l2) {
                unroll<MAX_L + 1>([&](auto l3) { of[l1][l2][l3] = kernels_of<l1.value, l2.value, l3.value>(); });
            });
        });
    }
};

}  // namespace
