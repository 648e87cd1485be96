// What the library's parts, and cpu.py through ctypes, share: plain C structs, no templates,
// so that objects compiled for different instruction sets agree on them.
#pragma once
#include <cstdint>

#ifndef UNROLLED_L
#define UNROLLED_L 3                 // highest degree whose kernels are unrolled
#endif

constexpr int MAX_L = 4;             // highest degree with kernels
constexpr int TILE = 8;              // edges handled together
constexpr int NUM_OPERATIONS = 4;

// One product (l1) x (l2) -> (l3) of `mul` channels. Offsets count elements of a row.
struct Path {
    int64_t l1, l2, l3, mul;
    int64_t x_offset;                // component m, channel u of the sender: x_offset + m * mul + u
    int64_t y_offset;                // first harmonic of degree l2
    int64_t w_offset;                // first of the path's weights
    int64_t out_offset, out_stride;  // component m, channel u of the result: out_offset + m * out_stride + u
    int64_t coupling_offset;         // first of its coupling coefficients
};

struct Plan {
    int64_t num_paths, dim_x, dim_y, dim_w, dim_out;
    const Path *paths;
    const void *couplings[2];        // non-zero ones in the order of couplings.h; float, double
};

// The tensors of one call, row-major and contiguous. "d" marks a tangent or a gradient.
//   FORWARD    out = T(x, y, w)
//   BACKWARD   dx, dy, dw = gradients of g . T(x, y, w)
//   FORWARD2   out = T(tx, y, w) + T(x, ty, w) + T(x, y, tw)
//   BACKWARD2  dx, dy, dw = gradients of g . (T(tx, y, w) + T(x, ty, w) + T(x, y, tw))
struct Problem {
    int64_t num_atoms, num_edges;
    const int64_t *edge_index;       // (2, E): receiving centres, sending neighbours
    const void *x, *y, *w;           // (N, dim_x), (E, dim_y), (E, dim_w)
    const void *tx, *ty, *tw;        // tangents of x, y, w
    const void *g;                   // (N, dim_out)
    void *out;                       // (N, dim_out)
    void *dx, *dy, *dw;              // as x, y, w
};

enum Operation { FORWARD, BACKWARD, FORWARD2, BACKWARD2 };

// The edges of every row: those received by atom i, or those sent by it.
struct EdgeRows {
    const int64_t *first;            // (N + 1,)
    const int64_t *edge;             // (E,) edge at a position; null if it is the position itself
    const int64_t *other;            // (E,) the atom at the far end of an edge
};

// Computes rows begin .. end - 1. Rows are independent, so threads share nothing they write.
typedef void (*RowKernel)(const Plan &, const Problem &, const EdgeRows &, int64_t begin, int64_t end);
