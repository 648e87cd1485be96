// SPDX-License-Identifier: MIT
// Reads the file of engines/network_image.py and the library of compiled kernels that evaluates it.
#pragma once
#include <dlfcn.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "network.h"  // of the package's kernels
#include "repulsion.h"

class NetworkImage {
public:
    NetworkImage(const std::string &path, const std::string &library) {
        load_library(library);
        read(path);
        if (header_.interface != interface_())
            throw std::runtime_error(path + " was written by another version of ase-equivariant than " + library + ": export the model again, and build the pair style again");
        if (int(header_.level) > best_level_())
            throw std::runtime_error(path + " is for another instruction set than this processor has: export it with a lower --level");
        memory_ = create_();
        if (!memory_) throw std::bad_alloc();
    }
    ~NetworkImage() {
        if (memory_) free_(memory_);
        if (handle_) dlclose(handle_);
    }
    NetworkImage(const NetworkImage &) = delete;
    NetworkImage &operator=(const NetworkImage &) = delete;

    double cutoff() const { return header_.cutoff; }
    int real_bytes() const { return int(header_.real_bytes); }
    const std::vector<std::string> &species() const { return species_; }  // chemical symbols
    const Repulsion &repulsion() const { return repulsion_; }
    // Of the rows that are exchanged.
    int64_t widest() const {
        int64_t width = 0;
        for (int64_t l = 1; l < network_->num_layers; l++) width = std::max(width, network_->layers[l].dim_x);
        return width;
    }

    void run(const NetworkProblem &problem, int threads) {
        const int status = run_(memory_, network_, &problem, header_.real_bytes == 8, int(header_.level), threads);
        if (status == 3) throw std::bad_alloc();
        if (status) throw std::runtime_error("the compiled network refuses its input (status " + std::to_string(status) + ")");
    }

private:
    struct Header {
        char magic[8];
        uint32_t interface, real_bytes, level, num_species;
        uint64_t bytes, num_places, root;
        double cutoff;
        uint32_t repulsion, unused;
        double inner, outer, p;
    };

    template <class Function> void find(Function &function, const char *name, const std::string &library) {
        function = reinterpret_cast<Function>(dlsym(handle_, name));
        if (!function) throw std::runtime_error(library + " has no " + name + ": it is not the library of ase-equivariant's kernels, or an old one");
    }
    void load_library(const std::string &library) {
        handle_ = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!handle_) throw std::runtime_error(std::string("no compiled kernels: ") + dlerror());
        find(interface_, "conv_interface", library);
        find(best_level_, "conv_best_level", library);
        find(create_, "network_memory_create", library);
        find(free_, "network_memory_free", library);
        find(run_, "network_run", library);
    }
    void read(const std::string &path) {
        std::unique_ptr<FILE, int (*)(FILE *)> file(std::fopen(path.c_str(), "rb"), std::fclose);
        if (!file) throw std::runtime_error("cannot open " + path + ": " + std::strerror(errno));
        const auto get = [&](void *to, size_t bytes) {
            if (std::fread(to, 1, bytes, file.get()) != bytes) throw std::runtime_error(path + " is cut off: export the model again");
        };
        get(&header_, sizeof header_);
        if (std::memcmp(header_.magic, "EQVIMG03", 8))
            throw std::runtime_error(path + " is no exported model: write one with `ase-equivariant lammps export`");
        for (uint32_t s = 0; s < header_.num_species; s++) {
            char symbol[9] = {};
            get(symbol, 8);
            species_.emplace_back(symbol);
        }
        repulsion_.kind = header_.repulsion, repulsion_.inner = header_.inner, repulsion_.outer = header_.outer, repulsion_.p = header_.p;
        repulsion_.pairs.resize(header_.repulsion ? size_t(header_.num_species) * header_.num_species : 0);
        get(repulsion_.pairs.data(), sizeof(RepulsionPair) * repulsion_.pairs.size());
        std::vector<uint64_t> places(header_.num_places);
        get(places.data(), 8 * places.size());
        const size_t start = sizeof header_ + 8 * (species_.size() + places.size()) + sizeof(RepulsionPair) * repulsion_.pairs.size();
        std::fseek(file.get(), long((start + 63) / 64 * 64), SEEK_SET);
        image_.reset(static_cast<char *>(std::aligned_alloc(64, (header_.bytes + 63) / 64 * 64)));
        if (!image_) throw std::bad_alloc();
        get(image_.get(), header_.bytes);
        for (const uint64_t place : places) {  // places in the image become addresses
            uint64_t address;
            if (place + 8 > header_.bytes) throw std::runtime_error(path + " is damaged: export the model again");
            std::memcpy(&address, image_.get() + place, 8);
            address += reinterpret_cast<uint64_t>(image_.get());
            std::memcpy(image_.get() + place, &address, 8);
        }
        network_ = reinterpret_cast<const Network *>(image_.get() + header_.root);
    }

    struct Free {
        void operator()(char *pointer) const { std::free(pointer); }
    };
    Header header_;
    std::vector<std::string> species_;
    Repulsion repulsion_;
    std::unique_ptr<char, Free> image_;
    const Network *network_ = nullptr;
    void *handle_ = nullptr, *memory_ = nullptr;
    uint32_t (*interface_)() = nullptr;
    int (*best_level_)() = nullptr;
    void *(*create_)() = nullptr;
    void (*free_)(void *) = nullptr;
    int (*run_)(void *, const Network *, const NetworkProblem *, int, int, int) = nullptr;
};
