// Rows of atoms, tile by tile. Compiled once for every instruction set and precision: REAL, VECTOR_BYTES and the
// exported NAME come from the build.
#include "tile.h"

namespace {

constexpr KernelTable TABLE;

// The channels after the last whole chunk, moved to and from zero-padded copies so that the kernels see whole chunks.
class Tail {
public:
    const REAL *in(const REAL *from, ptrdiff_t stride, int components, int lanes) {
        REAL *copy = next();
        for (int m = 0; m < components; m++)
            for (int u = 0; u < LANES; u++) copy[m * LANES + u] = u < lanes ? from[m * stride + u] : REAL(0);
        return copy;
    }
    REAL *space() { return next(); }
    static void out(const REAL *copy, REAL *to, ptrdiff_t stride, int components, int lanes) {
        for (int m = 0; m < components; m++)
            for (int u = 0; u < lanes; u++) to[m * stride + u] = copy[m * LANES + u];
    }

private:
    // The most a tile needs: x, tx, w, tw of each edge and the row; backward g, w, tw, dw and x, tx, dx.
    REAL *next() { return buffer_[used_++]; }
    int used_ = 0;
    alignas(64) REAL buffer_[4 * TILE + 3][MAX_D * LANES];
};

void run_tail(Tile t, void (*kernel)(const Tile &), bool backward, bool tangent, int d1, int d3, int lanes) {
    Tail tail;
    const int components = backward ? d3 : d1, row_components = backward ? d1 : d3;
    REAL *const row = t.row, *dw[TILE];
    const ptrdiff_t row_stride = t.row_stride;
    for (int e = 0; e < t.edges; e++) {
        t.gathered[e] = tail.in(t.gathered[e], t.gathered_stride, components, lanes);
        if (tangent && !backward) t.gathered_tangent[e] = tail.in(t.gathered_tangent[e], t.gathered_stride, components, lanes);
        t.w[e] = tail.in(t.w[e], 0, 1, lanes);
        if (tangent) t.tw[e] = tail.in(t.tw[e], 0, 1, lanes);
        if (backward) { dw[e] = t.dw[e]; t.dw[e] = tail.space(); }
    }
    if (backward) t.x = tail.in(t.x, t.x_stride, d1, lanes);
    if (backward && tangent) t.tx = tail.in(t.tx, t.x_stride, d1, lanes);
    REAL *const row_copy = const_cast<REAL *>(tail.in(row, row_stride, row_components, lanes));
    t.row = row_copy;
    t.gathered_stride = t.x_stride = t.row_stride = LANES;
    t.chunks = 1;
    kernel(t);
    Tail::out(row_copy, row, row_stride, row_components, lanes);
    for (int e = 0; backward && e < t.edges; e++) Tail::out(t.dw[e], dw[e], 0, 1, lanes);
}

struct TileOfEdges {
    int count;
    int64_t edge[TILE], other[TILE];
    TileOfEdges(const EdgeRows &rows, int64_t first, int64_t end) : count(end - first < TILE ? int(end - first) : TILE) {
        for (int e = 0; e < count; e++) {
            edge[e] = rows.edge ? rows.edge[first + e] : first + e;
            other[e] = rows.other[edge[e]];
        }
    }
    // Harmonics component by component, [m * TILE + e]; zero for edges beyond the last.
    void transpose(const REAL *y, int64_t dim_y, REAL *lanes) const {
        for (int e = 0; e < TILE; e++)
            for (int64_t m = 0; m < dim_y; m++) lanes[m * TILE + e] = e < count ? y[edge[e] * dim_y + m] : REAL(0);
    }
};

template <bool BACKWARD_PASS, bool TANGENT> class RowWorker {
public:
    RowWorker(const Plan &plan, const Problem &problem, const EdgeRows &rows) : plan_(plan), problem_(problem), rows_(rows) {}

    void run(int64_t atom) {
        const int64_t dim_row = BACKWARD_PASS ? plan_.dim_x : plan_.dim_out;
        REAL *row = static_cast<REAL *>(BACKWARD_PASS ? problem_.dx : problem_.out) + atom * dim_row;
        memset(row, 0, sizeof(REAL) * dim_row);
        for (int64_t first = rows_.first[atom]; first < rows_.first[atom + 1]; first += TILE)
            run_tile(TileOfEdges(rows_, first, rows_.first[atom + 1]), atom, row);
    }

private:
    void run_tile(const TileOfEdges &edges, int64_t atom, REAL *row) {
        edges.transpose(static_cast<const REAL *>(problem_.y), plan_.dim_y, y_);
        if (TANGENT) edges.transpose(static_cast<const REAL *>(problem_.ty), plan_.dim_y, ty_);
        if (BACKWARD_PASS) memset(dy_, 0, sizeof(Vector) * edges.count * plan_.dim_y);
        for (int64_t p = 0; p < plan_.num_paths; p++) run_path(plan_.paths[p], edges, atom, row);
        if (!BACKWARD_PASS) return;
        for (int e = 0; e < edges.count; e++)
            for (int64_t m = 0; m < plan_.dim_y; m++)
                static_cast<REAL *>(problem_.dy)[edges.edge[e] * plan_.dim_y + m] =
                    sum_of(dy_[e * plan_.dim_y + m]);
    }

    void run_path(const Path &path, const TileOfEdges &edges, int64_t atom, REAL *row) {
        const TileKernels &kernels = TABLE.of[path.l1][path.l2][path.l3];
        const REAL *couplings = static_cast<const REAL *>(plan_.couplings[sizeof(REAL) == 8]) + path.coupling_offset;
        kernels.matrices(couplings, y_ + path.y_offset * TILE, matrices_);
        if (TANGENT) kernels.matrices(couplings, ty_ + path.y_offset * TILE, tangent_matrices_);

        Tile tile = whole_chunks(path, edges, atom, row);
        tile.couplings = couplings;
        const auto kernel = (BACKWARD_PASS ? kernels.backward : kernels.forward)[TANGENT];
        kernel(tile);
        const int done = tile.chunks * LANES, lanes = int(path.mul) - done;
        if (!lanes) return;
        for (int e = 0; e < edges.count; e++) {
            tile.gathered[e] += done;
            if (TANGENT && !BACKWARD_PASS) tile.gathered_tangent[e] += done;
            tile.w[e] += done;
            if (TANGENT) tile.tw[e] += done;
            if (BACKWARD_PASS) tile.dw[e] += done;
        }
        if (BACKWARD_PASS) tile.x += done;
        if (BACKWARD_PASS && TANGENT) tile.tx += done;
        tile.row += done;
        run_tail(tile, kernel, BACKWARD_PASS, TANGENT, int(2 * path.l1 + 1), int(2 * path.l3 + 1), lanes);
    }

    Tile whole_chunks(const Path &path, const TileOfEdges &edges, int64_t atom, REAL *row) {
        const int64_t dim_far = BACKWARD_PASS ? plan_.dim_out : plan_.dim_x;
        const int64_t far_offset = BACKWARD_PASS ? path.out_offset : path.x_offset;
        const REAL *far = static_cast<const REAL *>(BACKWARD_PASS ? problem_.g : problem_.x);
        Tile t;
        t.edges = edges.count;
        t.chunks = int(path.mul / LANES);
        t.matrices = matrices_;
        t.tangent_matrices = TANGENT ? tangent_matrices_ : matrices_;
        t.gathered_stride = BACKWARD_PASS ? path.out_stride : path.mul;
        for (int e = 0; e < edges.count; e++) {
            t.gathered[e] = far + edges.other[e] * dim_far + far_offset;
            if (TANGENT && !BACKWARD_PASS)
                t.gathered_tangent[e] = static_cast<const REAL *>(problem_.tx) + edges.other[e] * dim_far + far_offset;
            const int64_t weight = edges.edge[e] * plan_.dim_w + path.w_offset;
            t.w[e] = static_cast<const REAL *>(problem_.w) + weight;
            if (TANGENT) t.tw[e] = static_cast<const REAL *>(problem_.tw) + weight;
            if (BACKWARD_PASS) t.dw[e] = static_cast<REAL *>(problem_.dw) + weight;
        }
        if (BACKWARD_PASS) t.x = static_cast<const REAL *>(problem_.x) + atom * plan_.dim_x + path.x_offset;
        if (BACKWARD_PASS && TANGENT) t.tx = static_cast<const REAL *>(problem_.tx) + atom * plan_.dim_x + path.x_offset;
        t.x_stride = path.mul;
        t.row = row + (BACKWARD_PASS ? path.x_offset : path.out_offset);
        t.row_stride = BACKWARD_PASS ? path.mul : path.out_stride;
        t.dy = dy_ + path.y_offset;
        t.dy_stride = plan_.dim_y;
        return t;
    }

    const Plan &plan_;
    const Problem &problem_;
    const EdgeRows &rows_;
    static constexpr int MAX_Y = (MAX_L + 1) * (MAX_L + 1);
    alignas(64) Vector dy_[TILE * MAX_Y];
    alignas(64) REAL y_[MAX_Y * TILE];
    alignas(64) REAL ty_[MAX_Y * TILE];
    alignas(64) Matrices matrices_, tangent_matrices_;
};

template <bool BACKWARD_PASS, bool TANGENT>
void run_rows(const Plan &plan, const Problem &problem, const EdgeRows &rows, int64_t begin, int64_t end) {
    RowWorker<BACKWARD_PASS, TANGENT> worker(plan, problem, rows);
    for (int64_t atom = begin; atom < end; atom++) worker.run(atom);
}

}  // namespace

// In the order of Operation.
extern "C" const RowKernel NAME[NUM_OPERATIONS];
extern "C" const RowKernel NAME[NUM_OPERATIONS] = {
    run_rows<false, false>, run_rows<true, false>, run_rows<false, true>, run_rows<true, true>};
