// Training's stages: energies and forces as in network.cpp, with what the gradients by the weights need kept, and
// those gradients.
//
// For a loss of energies E_s and forces, dL = sum a_s dE_s + d(derivative of E along t) with a and t, the loss's own
// derivatives, held fixed: t moves every edge vector. Gradients of that sum by the weights are the tangent, along t
// and with a as tangent of the energies' weights, of the gradients of E by the weights. So one pass takes the tangent
// of the forward calculation, and one that of the backward calculation. Gradients of E are marked by a "g".
#pragma once
#include "spline_conv.h"

namespace {

// The edges first .. first + count of a centre; with tangents if the pass has them.
template <bool TANGENT> void fill_spline(const NetworkRun &run, int64_t l, int64_t first, int count, int64_t thread, SplineTile &tile) {
    const NetworkLayer &layer = run.network->layers[l];
    const NetworkMemory &memory = *run.memory;
    const Training &training = *memory.training;
    const int64_t *neighbour = run.problem->edge_index + run.problem->num_edges, dim = dim_y(*run.network);
    fill(run, layer, LayerInput(run, l), first, count, tile);
    for (int e = 0; e < count; e++) tile.set_basis(e);
    for (int e = 0; TANGENT && e < count; e++) {
        tile.tx[e] = l ? real(training.t_x[l]) + neighbour[first + e] * layer.dim_x : real(training.zeros);
        tile.ty[e] = real(training.t_harmonics) + (first + e) * dim;
        tile.tt[e] = real(training.t_position)[first + e];
        char *const gradient = training.gradients + thread * training.bytes;
        tile.gradient[e] = reinterpret_cast<REAL *>(gradient + (reinterpret_cast<const char *>(tile.cell[e]) - training.weights));
    }
}

// Gate's output again, from what is kept of its input.
Rows features_after(const NetworkRun &run, int64_t l, int64_t begin, int64_t count, Scratch &scratch) {
    const NetworkLayer &layer = run.network->layers[l];
    const Rows out = scratch.rows(layer.dim_out, count), pre = rows_of(run.memory->pre[l], layer.dim_pre, begin);
    for (int64_t i = 0; i < count; i++) gate(layer, pre[i], out[i]);
    return out;
}
Rows tangents_after(const NetworkRun &run, int64_t l, int64_t begin, int64_t count, Scratch &scratch) {
    const NetworkLayer &layer = run.network->layers[l];
    const Rows out = scratch.rows(layer.dim_out, count), pre = rows_of(run.memory->pre[l], layer.dim_pre, begin);
    const Rows t_pre = rows_of(run.memory->training->t_pre[l], layer.dim_pre, begin);
    for (int64_t i = 0; i < count; i++) gate_tangent(layer, pre[i], t_pre[i], out[i]);
    return out;
}

// The squares' tangents.
Rows tangents_of_squares(const NetworkRun &run, int64_t l, int64_t begin, int64_t count, Scratch &scratch) {
    const NetworkLayer &layer = run.network->layers[l];
    const Rows out = scratch.rows(layer.dim_square, count), linear = rows_of(run.memory->linear[l], layer.dim_pre, begin);
    const Rows t_linear = rows_of(run.memory->training->t_linear[l], layer.dim_pre, begin);
    zero(out, layer.dim_square, count);
    for (int64_t i = 0; i < count; i++) square_tangent(layer, linear[i], t_linear[i], out[i]);
    return out;
}

void train_forward_block(const NetworkRun &run, int64_t l, int64_t begin, int64_t count, int64_t thread) {
    const NetworkLayer &layer = run.network->layers[l];
    const int64_t *species = run.problem->species + begin, dim = dim_y(*run.network);
    Scratch scratch(run, thread);
    const Rows linear = rows_of(run.memory->linear[l], layer.dim_pre, begin), pre = rows_of(run.memory->pre[l], layer.dim_pre, begin);
    const Rows conv = rows_of(run.memory->training->conv[l], layer.dim_conv, begin);
    zero(conv, layer.dim_conv, count);
    SplineTile tile;
    for (int64_t i = 0; i < count; i++)
        tiles(run, begin + i, [&](int64_t first, int edges) {
            fill_spline<false>(run, l, first, edges, thread, tile);
            to_lanes(tile.y, edges, dim, tile.y_lanes);
            for (int64_t p = 0; p < layer.num_paths; p++) SPLINE_KERNELS[layer.paths[p]].forward(layer.paths[p], tile, conv[i]);
        });
    start_pre(layer, l, linear, species, count);
    apply<false>(layer.out, conv, linear, species, count);
    add_squares(layer, linear, pre, species, count, scratch);
    const Rows features = features_after(run, l, begin, count, scratch);
    if (l + 1 < run.network->num_layers) start_next_layer(run, l + 1, begin, count, features);
    else {
        read_out(run, begin, count, features, scratch);
        const Rows kept = rows_of(run.memory->training->g_out[l], layer.dim_out, begin);
        const Rows gradients = rows_of(run.memory->features, run.memory->features_stride, begin);
        for (int64_t i = 0; i < count; i++) memcpy(kept[i], gradients[i], sizeof(REAL) * layer.dim_out);
    }
}

void train_forward(const NetworkRun &run, int64_t l, int64_t begin, int64_t end, int64_t thread) {
    blocks(begin, end, [&](int64_t first, int64_t count) { train_forward_block(run, l, first, count, thread); });
}

void train_backward_block(const NetworkRun &run, int64_t l, int64_t begin, int64_t count, int64_t thread) {
    const Network &network = *run.network;
    const NetworkMemory &memory = *run.memory;
    const Training &training = *memory.training;
    const NetworkLayer &layer = network.layers[l];
    const int64_t *species = run.problem->species + begin;
    const Rows features = rows_of(training.g_out[l], layer.dim_out, begin);
    if (l + 1 < network.num_layers)
        gather_x_gradients(run, l + 1, begin, count, rows_of(training.g_x[l + 1], network.layers[l + 1].dim_x, begin), features);
    const Rows g_pre = rows_of(training.g_pre[l], layer.dim_pre, begin), g_conv = rows_of(training.g_conv[l], layer.dim_conv, begin);
    const Rows pre = rows_of(memory.pre[l], layer.dim_pre, begin);
    zero(g_pre, layer.dim_pre, count);
    for (int64_t i = 0; i < count; i++) gate_gradient(layer, pre[i], features[i], g_pre[i]);
    if (layer.num_squares) {
        memcpy(rows_of(training.g_squared[l], layer.dim_pre, begin)[0], g_pre[0], sizeof(REAL) * layer.dim_pre * count);
        squares_gradient(layer, rows_of(memory.linear[l], layer.dim_pre, begin), g_pre, species, count, Scratch(run, thread));
    }
    if (l > 0) {
        const Rows before = rows_of(training.g_out[l - 1], network.layers[l - 1].dim_out, begin);
        zero(before, network.layers[l - 1].dim_out, count);
        apply<true>(layer.self, before, g_pre, species, count);
    }
    zero(g_conv, layer.dim_conv, count);
    apply<true>(layer.out, g_conv, g_pre, species, count);
    REAL *const dx = l ? x_gradients(run, l, thread) : nullptr;
    SplineTile tile;
    for (int64_t i = 0; i < count; i++)
        tiles(run, begin + i, [&](int64_t first, int edges) {
            fill_spline<false>(run, l, first, edges, thread, tile);
            clear_gradients(run, first, edges, dx, tile);
            for (int64_t p = 0; p < layer.num_paths; p++)
                SPLINE_KERNELS[layer.paths[p]].backward[dx != nullptr](layer.paths[p], tile, g_conv[i], dim_y(network));
            add_edge_gradients(run, first, tile);
        });
}

void train_backward(const NetworkRun &run, int64_t l, int64_t begin, int64_t end, int64_t thread) {
    if (l > 0) clear_x_gradients(run, l, thread);
    blocks(begin, end, [&](int64_t first, int64_t count) { train_backward_block(run, l, first, count, thread); });
}

void tangent_geometry(const NetworkRun &run, int64_t, int64_t begin, int64_t end, int64_t) {
    const Network &network = *run.network;
    const NetworkMemory &memory = *run.memory;
    const Training &training = *memory.training;
    const int64_t dim = dim_y(network), last = memory.first[end];
    for (int64_t e = memory.first[begin]; e < last; e += LANE_EDGES) {
        const int count = last - e < LANE_EDGES ? int(last - e) : LANE_EDGES;
        const EdgeGeometry edges(network, run.problem->edge_vectors + 3 * e, count);
        Edges ty[MAX_HARMONICS], tr;
        edges.tangent(network, training.edge_tangents + 3 * e, count, ty, tr);
        for (int k = 0; k < count; k++) {
            const bool inside = real(memory.position)[e + k] < 1;
            real(training.t_position)[e + k] = inside ? REAL(tr[k] * stretch(run, e + k) * double(network.num_intervals) / network.cutoff) : 0;
            for (int64_t m = 0; m < dim; m++) real(training.t_harmonics)[(e + k) * dim + m] = REAL(ty[m][k]);
        }
    }
}

void tangent_forward_block(const NetworkRun &run, int64_t l, int64_t begin, int64_t count, int64_t thread) {
    const Network &network = *run.network;
    const NetworkLayer &layer = network.layers[l];
    const Training &training = *run.memory->training;
    const int64_t *species = run.problem->species + begin, dim = dim_y(network);
    Scratch scratch(run, thread);
    const Rows t_linear = rows_of(training.t_linear[l], layer.dim_pre, begin), t_conv = rows_of(training.t_conv[l], layer.dim_conv, begin);
    zero(t_conv, layer.dim_conv, count);
    SplineTile tile;
    for (int64_t i = 0; i < count; i++)
        tiles(run, begin + i, [&](int64_t first, int edges) {
            fill_spline<true>(run, l, first, edges, thread, tile);
            to_lanes(tile.y, edges, dim, tile.y_lanes);
            to_lanes(tile.ty, edges, dim, tile.ty_lanes);
            for (int64_t p = 0; p < layer.num_paths; p++) SPLINE_KERNELS[layer.paths[p]].tangent_forward(layer.paths[p], tile, t_conv[i]);
        });
    if (l == 0) zero(t_linear, layer.dim_pre, count);  // of later layers, the self-connection's share is there
    apply<false>(layer.out, t_conv, t_linear, species, count);
    if (layer.num_squares) {
        const Rows t_squares = tangents_of_squares(run, l, begin, count, scratch), t_pre = rows_of(training.t_pre[l], layer.dim_pre, begin);
        memcpy(t_pre[0], t_linear[0], sizeof(REAL) * layer.dim_pre * count);
        apply<false>(layer.square_out, t_squares, t_pre, species, count);
    }
    if (l + 1 == network.num_layers) return;
    const NetworkLayer &next = network.layers[l + 1];
    const Rows features = tangents_after(run, l, begin, count, scratch);
    const Rows t_x = rows_of(training.t_x[l + 1], next.dim_x, begin), next_pre = rows_of(training.t_linear[l + 1], next.dim_pre, begin);
    zero(t_x, next.dim_x, count);
    zero(next_pre, next.dim_pre, count);
    apply<false>(next.in, features, t_x, species, count);
    for (int64_t i = 0; network.sender && i < count; i++) scale(t_x[i], network.sender[species[i]], next.dim_x);
    apply<false>(next.self, features, next_pre, species, count);
}

void tangent_forward(const NetworkRun &run, int64_t l, int64_t begin, int64_t end, int64_t thread) {
    blocks(begin, end, [&](int64_t first, int64_t count) { tangent_forward_block(run, l, first, count, thread); });
}

// The place of the gradient by an array of weights, in one thread's share.
REAL *gradient_of(const NetworkRun &run, int64_t thread, const void *weights) {
    const Training &training = *run.memory->training;
    return reinterpret_cast<REAL *>(training.gradients + thread * training.bytes + (static_cast<const char *>(weights) - training.weights));
}

// Tangents of the gradients by features, into tg, and gradients by the read-out's weights.
void tangent_read_out(const NetworkRun &run, int64_t begin, int64_t count, int64_t thread, Rows tg, Scratch scratch) {
    const Network &network = *run.network;
    const int64_t last = network.num_layers - 1;
    Rows value[16], tangent[16];
    value[0] = features_after(run, last, begin, count, scratch);
    tangent[0] = tangents_after(run, last, begin, count, scratch);
    Rows z[16], tz[16];
    const REAL *from[BLOCK];
    REAL *to[BLOCK];
    const auto multiply = [&](Rows in, Rows out, const void *matrix, int64_t k, int64_t n) {
        for (int64_t i = 0; i < count; i++) from[i] = in[i], to[i] = out[i];
        gemm(from, to, count, real(matrix), k, n);
    };
    for (int64_t h = 0; h < network.num_hidden; h++) {
        const HiddenLayer &hidden = network.hidden[h];
        for (Rows *rows : {&z[h], &tz[h], &value[h + 1], &tangent[h + 1]}) *rows = scratch.rows(hidden.n, count);
        zero(z[h], hidden.n, count);
        zero(tz[h], hidden.n, count);
        multiply(value[h], z[h], hidden.weight, hidden.k, hidden.n);
        multiply(tangent[h], tz[h], hidden.weight, hidden.k, hidden.n);
        for (int64_t i = 0; i < count; i++)
            for (int64_t u = 0; u < hidden.n; u += LANES) {
                const Vector x = load(z[h][i] + u);
                store(value[h + 1][i] + u, silu(x));
                store(tangent[h + 1][i] + u, silu_slope(x) * load(tz[h][i] + u));
            }
    }
    // From here on value and tangent become gradients and their tangents.
    const int64_t H = network.num_hidden;
    REAL *const d_readout = gradient_of(run, thread, network.readout);
    for (int64_t i = 0; i < count; i++) {
        const REAL scale = REAL(network.scale[run.problem->species[begin + i]]);
        const REAL weighted = scale * REAL(run.memory->training->energy_weights[begin + i]);
        for (int64_t u = 0; u < network.readout_k; u += LANES) {
            store(d_readout + u, load(d_readout + u) + weighted * load(value[H][i] + u) + scale * load(tangent[H][i] + u));
            const Vector w = load(real(network.readout) + u);
            REAL *const t = H ? tangent[H][i] : tg[i];
            if (H) store(value[H][i] + u, scale * w);
            store(t + u, weighted * w);
        }
        if (!H)  // the read-out is of scalars only: the rest of the row
            for (int64_t u = network.readout_k; u < network.layers[last].dim_out; u += LANES) store(tg[i] + u, Vector{});
    }
    for (int64_t h = H - 1; h >= 0; h--) {
        const HiddenLayer &hidden = network.hidden[h];
        for (int64_t i = 0; i < count; i++)
            for (int64_t u = 0; u < hidden.n; u += LANES) {
                const Vector x = load(z[h][i] + u), slope = silu_slope(x), g = load(value[h + 1][i] + u);
                store(tangent[h + 1][i] + u, slope * load(tangent[h + 1][i] + u) + g * silu_curvature(x) * load(tz[h][i] + u));
                store(value[h + 1][i] + u, slope * g);
            }
        const REAL *x[2 * BLOCK], *y[2 * BLOCK];
        for (int64_t i = 0; i < count; i++) {
            x[i] = value[h][i], y[i] = tangent[h + 1][i];
            x[count + i] = tangent[h][i], y[count + i] = value[h + 1][i];
        }
        outer(x, y, 2 * count, gradient_of(run, thread, hidden.weight), hidden.k, hidden.n);
        const Rows target = h ? tangent[h] : tg;
        zero(target, h ? hidden.padded_k : network.layers[last].dim_out, count);
        multiply(tangent[h + 1], target, hidden.transposed, hidden.n, hidden.padded_k);
        if (!h) continue;
        zero(value[h], hidden.padded_k, count);
        multiply(value[h + 1], value[h], hidden.transposed, hidden.n, hidden.padded_k);
    }
}

// Tangents of gradients by pre become those by its linear part; gradients by the squares' weights and matrices.
void tangent_squares(const NetworkRun &run, int64_t l, int64_t begin, int64_t count, int64_t thread, Rows tg_pre, Scratch scratch) {
    const NetworkLayer &layer = run.network->layers[l];
    const Training &training = *run.memory->training;
    const int64_t *species = run.problem->species + begin, to_gradient = training.gradients + thread * training.bytes - training.weights;
    const Rows linear = rows_of(run.memory->linear[l], layer.dim_pre, begin), t_linear = rows_of(training.t_linear[l], layer.dim_pre, begin);
    const Rows g_pre = rows_of(training.g_squared[l], layer.dim_pre, begin);
    const Rows squares = scratch.rows(layer.dim_square, count), t_squares = tangents_of_squares(run, l, begin, count, scratch);
    zero(squares, layer.dim_square, count);
    for (int64_t i = 0; i < count; i++) square(layer, linear[i], squares[i]);
    add_weight_gradient(layer.square_out, squares, tg_pre, species, count, to_gradient);
    add_weight_gradient(layer.square_out, t_squares, g_pre, species, count, to_gradient);
    const Rows g_squares = squares, tg_squares = t_squares;  // in the same memory
    zero(g_squares, layer.dim_square, count);
    zero(tg_squares, layer.dim_square, count);
    apply<true>(layer.square_out, g_squares, g_pre, species, count);
    apply<true>(layer.square_out, tg_squares, tg_pre, species, count);
    for (int64_t i = 0; i < count; i++)
        square_gradient_tangent(layer, linear[i], t_linear[i], g_squares[i], tg_squares[i], tg_pre[i], to_gradient);
}

void add_row(const NetworkRun &run, int64_t thread, const void *weights, const REAL *row, int64_t dim) {
    if (weights) add(gradient_of(run, thread, weights), row, dim);
}

void tangent_backward_block(const NetworkRun &run, int64_t l, int64_t begin, int64_t count, int64_t thread) {
    const Network &network = *run.network;
    const NetworkMemory &memory = *run.memory;
    const Training &training = *memory.training;
    const NetworkLayer &layer = network.layers[l];
    const int64_t *species = run.problem->species + begin, to_gradient = training.gradients + thread * training.bytes - training.weights;
    const int64_t *neighbour = run.problem->edge_index + run.problem->num_edges;
    Scratch scratch(run, thread);
    const Rows tg_out = rows_of(training.tg_out, memory.features_stride, begin);
    if (l + 1 == network.num_layers) tangent_read_out(run, begin, count, thread, tg_out, scratch);
    else {
        const NetworkLayer &next = network.layers[l + 1];
        Scratch local = scratch;
        const Rows tg_x = local.rows(next.dim_x, count);
        gather_x_gradients(run, l + 1, begin, count, tg_x, tg_out);
        const Rows features = features_after(run, l, begin, count, local), t_features = tangents_after(run, l, begin, count, local);
        add_weight_gradient(next.in, features, tg_x, species, count, to_gradient);
        add_weight_gradient(next.in, t_features, rows_of(training.g_x[l + 1], next.dim_x, begin), species, count, to_gradient);
        for (int64_t i = 0; i < count; i++) add_row(run, thread, next.x_bias, tg_x[i], next.dim_x);
    }
    const Rows pre = rows_of(memory.pre[l], layer.dim_pre, begin), t_pre = rows_of(training.t_pre[l], layer.dim_pre, begin);
    const Rows g_out = rows_of(training.g_out[l], layer.dim_out, begin), g_pre = rows_of(training.g_pre[l], layer.dim_pre, begin);
    const Rows g_conv = rows_of(training.g_conv[l], layer.dim_conv, begin);
    const Rows tg_pre = scratch.rows(layer.dim_pre, count), tg_conv = scratch.rows(layer.dim_conv, count);
    zero(tg_pre, layer.dim_pre, count);
    for (int64_t i = 0; i < count; i++) gate_gradient_tangent(layer, pre[i], t_pre[i], g_out[i], tg_out[i], tg_pre[i]);
    if (layer.num_squares) tangent_squares(run, l, begin, count, thread, tg_pre, scratch);
    for (int64_t i = 0; i < count; i++) {
        add_row(run, thread, layer.pre_bias, tg_pre[i], layer.dim_pre);
        if (l == 0 && layer.first_pre) add_row(run, thread, real(layer.first_pre) + species[i] * layer.dim_pre, tg_pre[i], layer.dim_pre);
    }
    add_weight_gradient(layer.out, rows_of(training.conv[l], layer.dim_conv, begin), tg_pre, species, count, to_gradient);
    add_weight_gradient(layer.out, rows_of(training.t_conv[l], layer.dim_conv, begin), g_pre, species, count, to_gradient);
    if (l > 0) {
        Scratch local = scratch;
        const Rows before = features_after(run, l - 1, begin, count, local), t_before = tangents_after(run, l - 1, begin, count, local);
        add_weight_gradient(layer.self, before, tg_pre, species, count, to_gradient);
        add_weight_gradient(layer.self, t_before, g_pre, species, count, to_gradient);
        zero(tg_out, network.layers[l - 1].dim_out, count);
        apply<true>(layer.self, tg_out, tg_pre, species, count);
    }
    zero(tg_conv, layer.dim_conv, count);
    apply<true>(layer.out, tg_conv, tg_pre, species, count);
    REAL *const dx = x_gradients(run, l, thread);
    SplineTile tile;
    for (int64_t i = 0; i < count; i++)
        tiles(run, begin + i, [&](int64_t first, int edges) {
            fill_spline<true>(run, l, first, edges, thread, tile);
            for (int e = 0; e < edges; e++) {
                const int64_t j = neighbour[first + e];
                tile.dx[e] = l ? dx + j * memory.x_stride : gradient_of(run, thread, real(layer.first_x) + run.problem->species[j] * layer.dim_x);
            }
            for (int64_t p = 0; p < layer.num_paths; p++)
                SPLINE_KERNELS[layer.paths[p]].tangent_backward(layer.paths[p], tile, g_conv[i], tg_conv[i]);
        });
}

void tangent_backward(const NetworkRun &run, int64_t l, int64_t begin, int64_t end, int64_t thread) {
    if (l > 0) clear_x_gradients(run, l, thread);
    blocks(begin, end, [&](int64_t first, int64_t count) { tangent_backward_block(run, l, first, count, thread); });
}

// Adds the other threads' shares to the first's, elements begin .. end - 1.
void sum_gradients(const NetworkRun &run, int64_t, int64_t begin, int64_t end, int64_t) {
    const Training &training = *run.memory->training;
    REAL *const sum = reinterpret_cast<REAL *>(training.gradients);
    for (int64_t t = 1; t < run.memory->threads; t++) {
        const REAL *const share = reinterpret_cast<const REAL *>(training.gradients + t * training.bytes);
        for (int64_t k = begin; k < end; k++) sum[k] += share[k];
    }
}

}  // namespace
