// The stages of a frozen network. Compiled once for every instruction set and precision, as rows.cpp.
#include "network.h"

#include "gemm.h"
#include "geometry.h"
#include "pointwise.h"
#include "square.h"
#include "table_conv.h"

namespace {

REAL *real(void *p) { return static_cast<REAL *>(p); }
const REAL *real(const void *p) { return static_cast<const REAL *>(p); }

int64_t dim_y(const Network &network) { return (network.l_max + 1) * (network.l_max + 1); }

// Pieces of one thread's scratch memory; network_library.cpp reserves enough for the widest layer.
class Scratch {
public:
    Scratch(const NetworkRun &run, int64_t thread)
        : next_(real(run.memory->scratch) + thread * run.memory->scratch_size) {}
    Rows rows(int64_t dim, int64_t count) {
        Rows rows{next_, dim};
        next_ += dim * count;
        return rows;
    }

private:
    REAL *next_;
};

void add(REAL *row, const REAL *other, int64_t dim) {
    for (int64_t u = 0; u < dim; u += LANES) store(row + u, load(row + u) + load(other + u));
}

void scale(REAL *row, double factor, int64_t dim) {
    for (int64_t u = 0; u < dim; u += LANES) store(row + u, load(row + u) * REAL(factor));
}

void zero(const Rows &rows, int64_t dim, int64_t count) {
    for (int64_t i = 0; i < count; i++) memset(rows[i], 0, sizeof(REAL) * dim);
}

// Rows of consecutive atoms in an array of all of them.
Rows rows_of(void *base, int64_t dim, int64_t begin) { return Rows{real(base) + begin * dim, dim}; }

// body(first, count) for blocks of the atoms begin .. end - 1
template <class Body> void blocks(int64_t begin, int64_t end, Body &&body) {
    for (int64_t b = begin; b < end; b += BLOCK) body(b, end - b < BLOCK ? end - b : int64_t(BLOCK));
}

// One thread's share of the gradients by a layer's x.
REAL *x_gradients(const NetworkRun &run, int64_t l, int64_t thread) {
    return real(run.memory->x_gradients[l % 2]) + thread * run.problem->num_atoms * run.memory->x_stride;
}

void clear_x_gradients(const NetworkRun &run, int64_t l, int64_t thread) {
    memset(x_gradients(run, l, thread), 0, sizeof(REAL) * run.problem->num_atoms * run.memory->x_stride);
}

// How much longer than it is an edge is taken to be.
double stretch(const NetworkRun &run, int64_t e) {
    const Network &network = *run.network;
    if (!network.stretch) return 1;
    const int64_t *index = run.problem->edge_index, *species = run.problem->species;
    return network.stretch[species[index[e]] * network.num_species + species[index[run.problem->num_edges + e]]];
}

// Edge data of the centres: harmonics, interval and position in the tables.
void geometry(const NetworkRun &run, int64_t, int64_t begin, int64_t end, int64_t) {
    const Network &network = *run.network;
    const NetworkMemory &memory = *run.memory;
    const int64_t dim = dim_y(network), last = memory.first[end];
    for (int64_t e = memory.first[begin]; e < last; e += LANE_EDGES) {
        const int count = last - e < LANE_EDGES ? int(last - e) : LANE_EDGES;
        const EdgeGeometry edges(network, run.problem->edge_vectors + 3 * e, count);
        for (int k = 0; k < count; k++) {
            const double s = edges.r[k] * stretch(run, e + k) / network.cutoff * double(network.num_intervals);
            int64_t interval = int64_t(s);
            if (!(interval < network.num_intervals)) interval = network.num_intervals - 1;
            if (interval < 0) interval = 0;  // NaN, which the position keeps
            const double position = s - double(interval);
            memory.interval[e + k] = int32_t(interval);
            real(memory.position)[e + k] = REAL(position > 1 ? 1 : position);  // beyond the cutoff it stays zero
            for (int64_t m = 0; m < dim; m++) real(memory.harmonics)[(e + k) * dim + m] = REAL(edges.y[m][k]);
            for (int64_t m = 0; m < dim; m++) real(memory.harmonic_gradients)[(e + k) * dim + m] = 0;
            real(memory.distance_gradients)[e + k] = 0;
        }
    }
}

// Features x of an atom in a layer: its own, or in the first layer those of its species.
struct LayerInput {
    const REAL *base;
    const int64_t *row;  // null: the atom itself
    int64_t dim;
    LayerInput(const NetworkRun &run, int64_t layer)
        : base(real(layer ? run.memory->x[layer] : const_cast<void *>(run.network->layers[0].first_x))),
          row(layer ? nullptr : run.problem->species), dim(run.network->layers[layer].dim_x) {}
    const REAL *operator[](int64_t atom) const { return base + (row ? row[atom] : atom) * dim; }
};

void fill(const NetworkRun &run, const NetworkLayer &layer, const LayerInput &input, int64_t first, int count, EdgeTile &tile) {
    const NetworkMemory &memory = *run.memory;
    const int64_t *neighbour = run.problem->edge_index + run.problem->num_edges, dim = dim_y(*run.network);
    tile.edges = count;
    tile.table_row = layer.table_row;
    for (int e = 0; e < count; e++) {
        tile.x[e] = input[neighbour[first + e]];
        tile.cell[e] = real(layer.table) + memory.interval[first + e] * layer.table_row;
        tile.t[e] = real(memory.position)[first + e];
        tile.y[e] = real(memory.harmonics) + (first + e) * dim;
    }
}

int tile_size(int64_t edges) {  // tiles of one centre as even as can be
    const int64_t tiles = (edges + EDGES - 1) / EDGES;
    return tiles ? int((edges + tiles - 1) / tiles) : 0;
}

// body(first, count) for tiles of a centre's edges
template <class Body> void tiles(const NetworkRun &run, int64_t atom, Body &&body) {
    const int64_t begin = run.memory->first[atom], end = run.memory->first[atom + 1];
    const int size = tile_size(end - begin);
    for (int64_t first = begin; first < end; first += size) body(first, int(end - first < size ? end - first : size));
}

void to_lanes(const REAL *const *y, int edges, int64_t dim, REAL *lanes) {
    for (int e = 0; e < EDGES; e++)
        for (int64_t m = 0; m < dim; m++) lanes[m * EDGES + e] = e < edges ? y[e][m] : REAL(0);
}

void convolve(const NetworkRun &run, const NetworkLayer &layer, const LayerInput &input, int64_t atom, REAL *row) {
    EdgeTile tile;
    tiles(run, atom, [&](int64_t first, int edges) {
        fill(run, layer, input, first, edges, tile);
        to_lanes(tile.y, edges, dim_y(*run.network), tile.y_lanes);
        for (int64_t p = 0; p < layer.num_paths; p++) TABLE_KERNELS[layer.paths[p]].forward(layer.paths[p], tile, row);
    });
}

void add_edge_gradients(const NetworkRun &run, int64_t first, const EdgeTile &tile) {
    const int64_t dim = dim_y(*run.network);
    for (int e = 0; e < tile.edges; e++) {
        real(run.memory->distance_gradients)[first + e] += sum_of(tile.dt[e]);
        REAL *dy = real(run.memory->harmonic_gradients) + (first + e) * dim;
        for (int64_t m = 1; m < dim; m++) dy[m] += sum_of(tile.dy[e * dim + m]);
    }
}

// Before a tile's gradients are added up: none yet, and where those by x go, if they do.
void clear_gradients(const NetworkRun &run, int64_t first, int edges, REAL *dx, EdgeTile &tile) {
    const int64_t *neighbour = run.problem->edge_index + run.problem->num_edges;
    memset(tile.dy, 0, sizeof(Vector) * edges * dim_y(*run.network));
    memset(tile.dt, 0, sizeof(Vector) * edges);
    for (int e = 0; dx && e < edges; e++) tile.dx[e] = dx + neighbour[first + e] * run.memory->x_stride;
}

void convolve_gradient(const NetworkRun &run, const NetworkLayer &layer, const LayerInput &input, int64_t atom, const REAL *g, REAL *dx) {
    EdgeTile tile;
    tiles(run, atom, [&](int64_t first, int edges) {
        fill(run, layer, input, first, edges, tile);
        clear_gradients(run, first, edges, dx, tile);
        for (int64_t p = 0; p < layer.num_paths; p++)
            TABLE_KERNELS[layer.paths[p]].backward[dx != nullptr](layer.paths[p], tile, g, dim_y(*run.network));
        add_edge_gradients(run, first, tile);
    });
}

// The read-out of some atoms: energies, and if wanted their gradients by the features.
void read_out(const NetworkRun &run, int64_t begin, int64_t count, Rows features, Scratch scratch) {
    const Network &network = *run.network;
    const NetworkProblem &problem = *run.problem;
    const REAL *from[BLOCK];
    REAL *to[BLOCK];
    Rows layers[16], slopes[16];
    layers[0] = features;
    for (int64_t h = 0; h < network.num_hidden; h++) {
        const HiddenLayer &hidden = network.hidden[h];
        layers[h + 1] = scratch.rows(hidden.n, count);
        slopes[h] = scratch.rows(hidden.n, count);
        zero(layers[h + 1], hidden.n, count);
        for (int64_t i = 0; i < count; i++) from[i] = layers[h][i], to[i] = layers[h + 1][i];
        gemm(from, to, count, real(hidden.weight), hidden.k, hidden.n);
        for (int64_t i = 0; i < count; i++)
            for (int64_t u = 0; u < hidden.n; u += LANES) {
                const Vector z = load(layers[h + 1][i] + u);
                store(slopes[h][i] + u, silu_slope(z));
                store(layers[h + 1][i] + u, silu(z));
            }
    }
    const Rows last = layers[network.num_hidden];
    for (int64_t i = 0; i < count; i++) {
        Vector sum = {};
        for (int64_t u = 0; u < network.readout_k; u += LANES) sum += load(last[i] + u) * load(real(network.readout) + u);
        const int64_t s = problem.species[begin + i];
        problem.energies[begin + i] = network.scale[s] * double(sum_of(sum)) + network.shift[s];
    }
    if (!problem.forces) return;
    const Rows gradients = rows_of(run.memory->features, run.memory->features_stride, begin);
    const NetworkLayer &layer = network.layers[network.num_layers - 1];
    zero(gradients, layer.dim_out, count);
    for (int64_t i = 0; i < count; i++) {
        const REAL scale = REAL(network.scale[problem.species[begin + i]]);
        REAL *g = network.num_hidden ? last[i] : gradients[i];
        for (int64_t u = 0; u < network.readout_k; u += LANES) store(g + u, scale * load(real(network.readout) + u));
    }
    for (int64_t h = network.num_hidden - 1; h >= 0; h--) {
        const HiddenLayer &hidden = network.hidden[h];
        const Rows target = h ? layers[h] : gradients;
        if (h) zero(target, hidden.padded_k, count);
        for (int64_t i = 0; i < count; i++) {
            for (int64_t u = 0; u < hidden.n; u += LANES)
                store(layers[h + 1][i] + u, load(layers[h + 1][i] + u) * load(slopes[h][i] + u));
            from[i] = layers[h + 1][i], to[i] = target[i];
        }
        gemm(from, to, count, real(hidden.transposed), hidden.n, hidden.padded_k);
    }
}

// x of the next layer and the self-connection's share of its `pre`.
void start_next_layer(const NetworkRun &run, int64_t next, int64_t begin, int64_t count, Rows features) {
    const NetworkLayer &layer = run.network->layers[next];
    const Rows x = rows_of(run.memory->x[next], layer.dim_x, begin);
    const Rows pre = rows_of(run.memory->linear[next], layer.dim_pre, begin);
    zero(x, layer.dim_x, count);
    zero(pre, layer.dim_pre, count);
    apply<false>(layer.in, features, x, run.problem->species + begin, count);
    for (int64_t i = 0; i < count; i++) {
        if (layer.x_bias) add(x[i], real(layer.x_bias), layer.dim_x);
        if (run.network->sender) scale(x[i], run.network->sender[run.problem->species[begin + i]], layer.dim_x);
    }
    apply<false>(layer.self, features, pre, run.problem->species + begin, count);
}

// What `pre` is before the convolution's share; later layers have the self-connection's there already.
void start_pre(const NetworkLayer &layer, int64_t l, Rows pre, const int64_t *species, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (l == 0) {
            if (layer.first_pre) memcpy(pre[i], real(layer.first_pre) + species[i] * layer.dim_pre, sizeof(REAL) * layer.dim_pre);
            else memset(pre[i], 0, sizeof(REAL) * layer.dim_pre);
        }
        if (layer.pre_bias) add(pre[i], real(layer.pre_bias), layer.dim_pre);
    }
}

// pre of a layer with squares: what is linear in the messages, and the squares' share.
void add_squares(const NetworkLayer &layer, Rows linear, Rows pre, const int64_t *species, int64_t count, Scratch scratch) {
    if (!layer.num_squares) return;
    const Rows squares = scratch.rows(layer.dim_square, count);
    zero(squares, layer.dim_square, count);
    for (int64_t i = 0; i < count; i++) {
        square(layer, linear[i], squares[i]);
        memcpy(pre[i], linear[i], sizeof(REAL) * layer.dim_pre);
    }
    apply<false>(layer.square_out, squares, pre, species, count);
}

// Gradients by pre become those by its linear part.
void squares_gradient(const NetworkLayer &layer, Rows linear, Rows g_pre, const int64_t *species, int64_t count, Scratch scratch) {
    if (!layer.num_squares) return;
    const Rows g_squares = scratch.rows(layer.dim_square, count);
    zero(g_squares, layer.dim_square, count);
    apply<true>(layer.square_out, g_squares, g_pre, species, count);
    for (int64_t i = 0; i < count; i++) square_gradient(layer, linear[i], g_squares[i], g_pre[i]);
}

void forward_block(const NetworkRun &run, int64_t l, int64_t begin, int64_t count, Scratch scratch) {
    const NetworkLayer &layer = run.network->layers[l];
    const int64_t *species = run.problem->species + begin;
    const LayerInput input(run, l);
    const Rows linear = rows_of(run.memory->linear[l], layer.dim_pre, begin), pre = rows_of(run.memory->pre[l], layer.dim_pre, begin);
    const Rows conv = scratch.rows(layer.dim_conv, count), features = scratch.rows(layer.dim_out, count);
    const Rows normal = scratch.rows(layer.dim_pre, 1);
    zero(conv, layer.dim_conv, count);
    for (int64_t i = 0; i < count; i++) convolve(run, layer, input, begin + i, conv[i]);
    start_pre(layer, l, linear, species, count);
    apply<false>(layer.out, conv, linear, species, count);
    add_squares(layer, linear, pre, species, count, scratch);
    for (int64_t i = 0; i < count; i++) {
        if (layer.num_norms) normalize(layer, pre[i], normal[0]);
        gate(layer, layer.num_norms ? normal[0] : pre[i], features[i]);
    }
    if (l + 1 < run.network->num_layers) start_next_layer(run, l + 1, begin, count, features);
    else read_out(run, begin, count, features, scratch);
}

void forward_layer(const NetworkRun &run, int64_t l, int64_t begin, int64_t end, int64_t thread) {
    blocks(begin, end, [&](int64_t first, int64_t count) { forward_block(run, l, first, count, Scratch(run, thread)); });
}

// The sum over threads of gradients by x, and those by the features before it that it brings.
void gather_x_gradients(const NetworkRun &run, int64_t l, int64_t begin, int64_t count, Rows sum, Rows features) {
    const NetworkLayer &layer = run.network->layers[l];
    const NetworkMemory &memory = *run.memory;
    const int64_t *species = run.problem->species + begin;
    for (int64_t i = 0; i < count; i++)
        for (int64_t u = 0; u < layer.dim_x; u += LANES) {
            const REAL *share = real(memory.x_gradients[l % 2]) + (begin + i) * memory.x_stride + u;
            Vector total = load(share);
            for (int64_t t = 1; t < memory.x_shares; t++) total += load(share + t * run.problem->num_atoms * memory.x_stride);
            store(sum[i] + u, total);
        }
    for (int64_t i = 0; run.network->sender && i < count; i++) scale(sum[i], run.network->sender[species[i]], layer.dim_x);
    apply<true>(layer.in, features, sum, species, count);
}

void backward_block(const NetworkRun &run, int64_t l, int64_t begin, int64_t count, int64_t thread) {
    const Network &network = *run.network;
    const NetworkMemory &memory = *run.memory;
    const NetworkLayer &layer = network.layers[l];
    const int64_t *species = run.problem->species + begin;
    Scratch scratch(run, thread);
    const Rows features = rows_of(memory.features, memory.features_stride, begin);
    if (l + 1 < network.num_layers) {
        const Rows sum = scratch.rows(network.layers[l + 1].dim_x, count);
        gather_x_gradients(run, l + 1, begin, count, sum, features);
    }
    const Rows g_pre = scratch.rows(layer.dim_pre, count), g_conv = scratch.rows(layer.dim_conv, count);
    const Rows normal = scratch.rows(layer.dim_pre, 1);
    for (int64_t i = 0; i < count; i++) {
        const REAL *pre = real(memory.pre[l]) + (begin + i) * layer.dim_pre;
        if (layer.num_norms) normalize(layer, pre, normal[0]);
        memset(g_pre[i], 0, sizeof(REAL) * layer.dim_pre);
        gate_gradient(layer, layer.num_norms ? normal[0] : pre, features[i], g_pre[i]);
        if (layer.num_norms) normalize_gradient(layer, pre, g_pre[i]);
    }
    squares_gradient(layer, rows_of(memory.linear[l], layer.dim_pre, begin), g_pre, species, count, scratch);
    if (l > 0) {
        zero(features, network.layers[l - 1].dim_out, count);
        apply<true>(layer.self, features, g_pre, species, count);
    }
    zero(g_conv, layer.dim_conv, count);
    apply<true>(layer.out, g_conv, g_pre, species, count);
    const LayerInput input(run, l);
    REAL *const dx = l ? x_gradients(run, l, thread) : nullptr;
    for (int64_t i = 0; i < count; i++) convolve_gradient(run, layer, input, begin + i, g_conv[i], dx);
}

void backward_layer(const NetworkRun &run, int64_t l, int64_t begin, int64_t end, int64_t thread) {
    if (l > 0) clear_x_gradients(run, l, thread);
    blocks(begin, end, [&](int64_t first, int64_t count) { backward_block(run, l, first, count, thread); });
}

// Adds the threads' gradients by x up in the first one's.
void sum_x_gradients(const NetworkRun &run, int64_t l, int64_t begin, int64_t end, int64_t) {
    const NetworkMemory &memory = *run.memory;
    REAL *const sum = real(memory.x_gradients[l % 2]);
    for (int64_t t = 1; t < memory.threads; t++)
        for (int64_t i = begin; i < end; i++)
            add(sum + i * memory.x_stride, sum + (t * run.problem->num_atoms + i) * memory.x_stride, run.network->layers[l].dim_x);
}

// Forces and virials from the gradients by edge vectors; each thread has its own sums.
void derivatives(const NetworkRun &run, int64_t, int64_t begin, int64_t end, int64_t thread) {
    const Network &network = *run.network;
    const NetworkProblem &problem = *run.problem;
    const NetworkMemory &memory = *run.memory;
    const int64_t dim = dim_y(network), last = memory.first[end];
    const int64_t *centre = problem.edge_index, *neighbour = centre + problem.num_edges;
    double *sums = memory.edge_gradients + thread * problem.num_atoms * 12;
    memset(sums, 0, sizeof(double) * problem.num_atoms * 12);
    for (int64_t e = memory.first[begin]; e < last; e += LANE_EDGES) {
        const int count = last - e < LANE_EDGES ? int(last - e) : LANE_EDGES;
        const EdgeGeometry edges(network, problem.edge_vectors + 3 * e, count);
        Edges dy[MAX_HARMONICS] = {}, dr = {}, g[3];
        for (int k = 0; k < count; k++) {
            for (int64_t m = 1; m < dim; m++) dy[m][k] = real(memory.harmonic_gradients)[(e + k) * dim + m];
            dr[k] = real(memory.distance_gradients)[e + k] * (stretch(run, e + k) * double(network.num_intervals) / network.cutoff);
        }
        edges.gradient(network, dy, dr, g);
        for (int k = 0; k < count; k++) {
            double *i = sums + centre[e + k] * 12, *j = sums + neighbour[e + k] * 12;
            for (int a = 0; a < 3; a++) {
                i[a] += g[a][k];
                j[a] -= g[a][k];
                for (int b = 0; b <= a; b++) {
                    // made symmetric; the sum over atoms is so already for a rotation-invariant energy
                    const double share = -0.25 * edges.r[k] * (edges.unit[a][k] * g[b][k] + edges.unit[b][k] * g[a][k]);
                    i[3 + 3 * a + b] += share;
                    j[3 + 3 * a + b] += share;
                }
            }
        }
    }
}

void sum_threads(const NetworkRun &run, int64_t, int64_t begin, int64_t end, int64_t) {
    const NetworkProblem &problem = *run.problem;
    for (int64_t i = begin; i < end; i++) {
        double sum[12] = {};
        for (int64_t t = 0; t < run.memory->threads; t++)
            for (int c = 0; c < 12; c++) sum[c] += run.memory->edge_gradients[(t * problem.num_atoms + i) * 12 + c];
        memcpy(problem.forces + 3 * i, sum, 3 * sizeof(double));
        for (int a = 0; problem.virials && a < 3; a++)
            for (int b = 0; b < 3; b++) problem.virials[9 * i + 3 * a + b] = a < b ? sum[3 + 3 * b + a] : sum[3 + 3 * a + b];
    }
}

}  // namespace

#include "training.h"

// In the order of Stage.
extern "C" const StageKernel NAME[NUM_STAGES];
extern "C" const StageKernel NAME[NUM_STAGES] = {
    geometry, forward_layer, backward_layer, derivatives, sum_threads, sum_x_gradients,
    train_forward, train_backward, tangent_geometry, tangent_forward, tangent_backward, sum_gradients};
