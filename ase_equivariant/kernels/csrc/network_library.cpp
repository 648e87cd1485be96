// What frozen.py calls: memory, threads and the order of the stages.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "conv.h"
#include "network.h"
#include "threads.h"

#define STAGES(level) extern "C" const StageKernel network_##level##_float[], network_##level##_double[];
STAGES(baseline)
#ifdef WITH_X86_LEVELS
STAGES(avx2)
STAGES(avx512)
#endif

namespace {

enum Status { OK, BAD_EDGE, UNSORTED, OUT_OF_MEMORY, NOT_EXCHANGED };

const StageKernel *stages(int level, bool is_double) {
#ifdef WITH_X86_LEVELS
    if (level >= 2) return is_double ? network_avx512_double : network_avx512_float;
    if (level == 1) return is_double ? network_avx2_double : network_avx2_float;
#endif
    (void)level;
    return is_double ? network_baseline_double : network_baseline_float;
}

// Memory that grows and is kept: giving it back after each step would cost more, in page faults, than computing.
class Buffer {
public:
    ~Buffer() { std::free(data_); }
    void *reserve(int64_t bytes) {
        if (bytes <= size_) return data_;
        std::free(data_);
        size_ = 0;
        bytes = (bytes + bytes / 8 + 4095) / 4096 * 4096;
        data_ = std::aligned_alloc(4096, size_t(bytes));
        if (!data_) throw std::bad_alloc();
        size_ = bytes;
        return data_;
    }
    int64_t size() const { return size_; }

private:
    void *data_ = nullptr;
    int64_t size_ = 0;
};

struct OwnedMemory {
    std::vector<int64_t> first, share;
    Buffer edges[5], x[MAX_LAYERS], pre[MAX_LAYERS], linear[MAX_LAYERS], features, x_gradients[2], edge_gradients, scratch;
};

// What training needs besides, and the calculation that its two calls share.
struct OwnedTraining {
    OwnedMemory memory;
    Buffer kept[MAX_LAYERS][10], edges[2], gradients_of_features, gradients, zeros;
    Training training;
    NetworkMemory pieces;
    NetworkProblem problem;
};

Status count_edges(const NetworkProblem &problem, std::vector<int64_t> &first) {
    const int64_t n = problem.num_centres, *centre = problem.edge_index, *neighbour = centre + problem.num_edges;
    first.assign(n + 1, 0);
    for (int64_t e = 0; e < problem.num_edges; e++) {
        if (uint64_t(centre[e]) >= uint64_t(n) || uint64_t(neighbour[e]) >= uint64_t(problem.num_atoms)) return BAD_EDGE;
        if (e && centre[e - 1] > centre[e]) return UNSORTED;
        first[centre[e] + 1]++;
    }
    for (int64_t i = 0; i < n; i++) first[i + 1] += first[i];
    return OK;
}

// Atoms of every thread in the backward pass: about the same work each, always the same for as many threads.
void divide(const std::vector<int64_t> &first, int64_t threads, std::vector<int64_t> &share) {
    const int64_t n = int64_t(first.size()) - 1, edges_worth_an_atom = 8, total = first[n] + edges_worth_an_atom * n;
    share.assign(threads + 1, n);
    share[0] = 0;
    for (int64_t i = 0, t = 1; i < n && t < threads; i++)
        while (t < threads && first[i] + edges_worth_an_atom * i >= total * t / threads) share[t++] = i;
}

NetworkMemory reserve(OwnedMemory &own, const Network &network, const NetworkProblem &problem, int64_t real, int64_t threads) {
    const int64_t n = problem.num_atoms, e = problem.num_edges, dim_y = (network.l_max + 1) * (network.l_max + 1);
    NetworkMemory memory = {};
    memory.threads = memory.x_shares = threads;
    memory.harmonics = own.edges[0].reserve(e * dim_y * real);
    memory.harmonic_gradients = own.edges[1].reserve(e * dim_y * real);
    memory.position = own.edges[2].reserve(e * real);
    memory.interval = static_cast<int32_t *>(own.edges[3].reserve(e * 4));
    memory.distance_gradients = own.edges[4].reserve(e * real);
    int64_t conv = 0, pre = 0, square = 0, out = 0, x = 0, hidden = 0;
    for (int64_t l = 0; l < network.num_layers; l++) {
        const NetworkLayer &layer = network.layers[l];
        conv = std::max(conv, layer.dim_conv), pre = std::max(pre, layer.dim_pre);
        out = std::max(out, layer.dim_out), x = std::max(x, layer.dim_x);
        memory.x[l] = l ? own.x[l].reserve(n * layer.dim_x * real) : nullptr;
        square = std::max(square, layer.dim_square);
        memory.pre[l] = own.pre[l].reserve(n * layer.dim_pre * real);
        memory.linear[l] = layer.num_squares ? own.linear[l].reserve(n * layer.dim_pre * real) : memory.pre[l];
    }
    for (int64_t h = 0; h < network.num_hidden; h++) hidden += 2 * std::max(network.hidden[h].n, network.hidden[h].padded_k);
    memory.scratch_size = BLOCK * (conv + 2 * pre + 2 * square + out + x + hidden) + pre;
    memory.scratch = own.scratch.reserve(threads * memory.scratch_size * real);
    memory.features_stride = out, memory.x_stride = x;
    if (problem.forces) {
        memory.features = own.features.reserve(n * out * real);
        for (int k = 0; k < 2; k++) memory.x_gradients[k] = own.x_gradients[k].reserve(threads * n * x * real);
        memory.edge_gradients = static_cast<double *>(own.edge_gradients.reserve(threads * n * 12 * 8));
        divide(own.first, threads, own.share);
    }
    memory.first = own.first.data();
    memory.share = own.share.data();
    return memory;
}

// Threads worth waking for so many edges.
int useful_threads(const Network &network, const NetworkProblem &problem, int threads) {
    int64_t weights = 0;
    for (int64_t l = 0; l < network.num_layers; l++) weights += network.layers[l].table_row;
    const int64_t worth_a_thread = 1 << 18;  // below, waking a thread costs more than it saves
    const int64_t useful = 1 + problem.num_edges * weights / worth_a_thread;
    return int(std::max<int64_t>(1, std::min({int64_t(threads), useful, problem.num_centres})));
}

void reserve_training(OwnedTraining &own, const Network &network, const NetworkProblem &problem, int64_t real) {
    const int64_t n = problem.num_atoms, e = problem.num_edges, dim_y = (network.l_max + 1) * (network.l_max + 1);
    Training &training = own.training;
    int64_t widest_x = 0, hidden = 0;
    for (int64_t l = 0; l < network.num_layers; l++) {
        const NetworkLayer &layer = network.layers[l];
        const auto keep = [&](int k, int64_t dim) { return own.kept[l][k].reserve(n * dim * real); };
        training.conv[l] = keep(0, layer.dim_conv), training.t_conv[l] = keep(1, layer.dim_conv);
        training.g_conv[l] = keep(2, layer.dim_conv), training.g_out[l] = keep(3, layer.dim_out);
        training.g_pre[l] = keep(4, layer.dim_pre), training.t_pre[l] = keep(5, layer.dim_pre);
        training.g_x[l] = keep(6, layer.dim_x), training.t_x[l] = keep(7, layer.dim_x);
        training.t_linear[l] = layer.num_squares ? keep(8, layer.dim_pre) : training.t_pre[l];
        training.g_squared[l] = layer.num_squares ? keep(9, layer.dim_pre) : nullptr;
        widest_x = std::max(widest_x, layer.dim_x);
    }
    for (int64_t h = 0; h < network.num_hidden; h++) hidden += 4 * std::max(network.hidden[h].n, network.hidden[h].padded_k);
    training.t_harmonics = own.edges[0].reserve(e * dim_y * real);
    training.t_position = own.edges[1].reserve(e * real);
    training.tg_out = own.gradients_of_features.reserve(n * own.pieces.features_stride * real);
    training.zeros = own.zeros.reserve(widest_x * real);
    std::memset(own.zeros.reserve(widest_x * real), 0, size_t(widest_x * real));
    own.pieces.scratch_size += BLOCK * (2 * own.pieces.features_stride + own.pieces.x_stride + hidden);
    own.pieces.scratch = own.memory.scratch.reserve(own.pieces.threads * own.pieces.scratch_size * real);
    own.pieces.training = &training;
}

Status calculate(const NetworkRun &run, NetworkMemory &memory, const StageKernel *kernels) {
    const NetworkProblem &problem = *run.problem;
    const int64_t n = problem.num_centres, layers = run.network->num_layers, threads = run.memory->threads;
    const int64_t piece = std::max<int64_t>(1, std::min<int64_t>(BLOCK, n / (threads * 4)));
    const bool training = run.memory->training;
    const Parallel parallel = training ? parallel_as_pytorch : parallel_on_helpers;
    const auto pieces = [&](Stage stage, int64_t layer, int64_t size) {
        run_pieces(parallel, int(threads), n, size, [&](int64_t begin, int64_t end, int share) { kernels[stage](run, layer, begin, end, share); });
    };
    const auto shares = [&](Stage stage, int64_t layer) {
        run_shares(parallel, int(threads), [&](int t) { kernels[stage](run, layer, run.memory->share[t], run.memory->share[t + 1], t); });
    };
    const auto of_all_atoms = [&](Stage stage, int64_t layer) {
        run_pieces(parallel, int(threads), problem.num_atoms, 1024, [&](int64_t begin, int64_t end, int share) { kernels[stage](run, layer, begin, end, share); });
    };
    pieces(GEOMETRY, 0, 4 * BLOCK);
    for (int64_t l = 0; l < layers; l++) {
        pieces(training ? TRAIN_FORWARD : FORWARD_LAYER, l, piece);
        if (!problem.exchange || l + 1 == layers) continue;
        const int64_t width = run.network->layers[l + 1].dim_x;
        if (problem.exchange(problem.context, 0, memory.x[l + 1], width, width)) return NOT_EXCHANGED;
    }
    if (!problem.forces) return OK;
    for (int64_t l = layers - 1; l >= 0; l--) {
        shares(training ? TRAIN_BACKWARD : BACKWARD_LAYER, l);
        if (!problem.exchange || l == 0) continue;
        of_all_atoms(SUM_X, l);
        memory.x_shares = 1;
        if (problem.exchange(problem.context, 1, memory.x_gradients[l % 2], run.network->layers[l].dim_x, memory.x_stride)) return NOT_EXCHANGED;
    }
    shares(DERIVATIVES, 0);
    of_all_atoms(SUM, 0);
    return OK;
}

void calculate_gradients(const NetworkRun &run, const StageKernel *kernels) {
    const NetworkMemory &memory = *run.memory;
    const int64_t layers = run.network->num_layers;
    const auto shares = [&](Stage stage, int64_t layer) {
        run_shares(parallel_as_pytorch, int(memory.threads), [&](int t) { kernels[stage](run, layer, memory.share[t], memory.share[t + 1], t); });
    };
    run_shares(parallel_as_pytorch, int(memory.threads), [&](int t) {
        std::memset(memory.training->gradients + t * memory.training->bytes, 0, size_t(memory.training->bytes));
    });
    shares(TANGENT_GEOMETRY, 0);
    for (int64_t l = 0; l < layers; l++) shares(TANGENT_FORWARD, l);
    for (int64_t l = layers - 1; l >= 0; l--) shares(TANGENT_BACKWARD, l);
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void *network_memory_create() { return new (std::nothrow) OwnedMemory; }
EXPORT void network_memory_free(void *memory) { delete static_cast<OwnedMemory *>(memory); }

// `level` must be the one that the network's rows are padded for.
EXPORT int network_run(void *own, const Network *network, const NetworkProblem *problem, int is_double, int level, int threads) {
    OwnedMemory &memory = *static_cast<OwnedMemory *>(own);
    try {
        const Status status = count_edges(*problem, memory.first);
        if (status != OK || (problem->num_atoms == 0 && !problem->exchange)) return status;
        threads = useful_threads(*network, *problem, threads);
        NetworkMemory pieces = reserve(memory, *network, *problem, is_double ? 8 : 4, threads);
        return calculate(NetworkRun{network, problem, &pieces}, pieces, stages(level, is_double));
    } catch (const std::bad_alloc &) {
        return OUT_OF_MEMORY;
    }
    return OK;
}

EXPORT void *network_training_create() { return new (std::nothrow) OwnedTraining; }
EXPORT void network_training_free(void *own) { delete static_cast<OwnedTraining *>(own); }

// Energies and forces for training; the arrays of `problem` must stay until the gradients are done.
EXPORT int network_train_forces(void *pointer, const Network *network, const NetworkProblem *problem, int is_double, int level, int threads) {
    OwnedTraining &own = *static_cast<OwnedTraining *>(pointer);
    try {
        const Status status = count_edges(*problem, own.memory.first);
        if (status != OK || problem->num_atoms == 0) return status;
        const int64_t real = is_double ? 8 : 4;
        own.pieces = reserve(own.memory, *network, *problem, real, useful_threads(*network, *problem, threads));
        own.problem = *problem;
        reserve_training(own, *network, *problem, real);
        return calculate(NetworkRun{network, &own.problem, &own.pieces}, own.pieces, stages(level, is_double));
    } catch (const std::bad_alloc &) {
        return OUT_OF_MEMORY;
    }
    return OK;
}

// Gradients by the weights, `elements` numbers from `weights` on, of the last call's energies and forces.
EXPORT int network_train_gradients(void *pointer, const Network *network, const double *energy_weights, const double *edge_tangents,
                                   const void *weights, void *gradients, int64_t elements, int is_double, int level) {
    OwnedTraining &own = *static_cast<OwnedTraining *>(pointer);
    const int64_t bytes = elements * (is_double ? 8 : 4), threads = own.pieces.threads;
    try {
        Training &training = own.training;
        training.energy_weights = energy_weights;
        training.edge_tangents = edge_tangents;
        training.weights = static_cast<const char *>(weights);
        training.gradients = static_cast<char *>(own.gradients.reserve(threads * bytes));
        training.bytes = bytes;
        const StageKernel *const kernels = stages(level, is_double);
        const NetworkRun run{network, &own.problem, &own.pieces};
        calculate_gradients(run, kernels);
        run_pieces(parallel_as_pytorch, int(threads), elements, 1 << 16, [&](int64_t begin, int64_t end, int share) {
            kernels[SUM_GRADIENTS](run, 0, begin, end, share);
        });
        std::memcpy(gradients, training.gradients, size_t(bytes));
    } catch (const std::bad_alloc &) {
        return OUT_OF_MEMORY;
    }
    return OK;
}
