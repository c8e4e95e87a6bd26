// A program as the runtime knows it: what the packer reads, and what the descriptor is written from.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "networks/program.h"
#include "shufflenet/descriptor.h"

namespace shufflenet::compile {

class ProgramData {
  public:
    explicit ProgramData(networks::Program program);
    ProgramData(const ProgramData &) = delete;
    ProgramData &operator=(const ProgramData &) = delete;

    const networks::Program &source() const { return source_; }
    const networks::Graph &graph() const { return source_.graph; }
    const shufflenet_program &program() const { return program_; }

  private:
    void add_layer(const networks::PackStep &step);
    const int16_t *numbers(const std::vector<int> &from);

    networks::Program source_;
    std::vector<shufflenet_shape> shapes_;
    std::vector<shufflenet_call> calls_;
    std::vector<shufflenet_layer> layers_;
    std::vector<shufflenet_pack> packing_;
    std::vector<shufflenet_output> outputs_;
    std::deque<std::vector<int16_t>> numbers_;
    std::string graph_text_;
    shufflenet_program program_{};
};

/// Of the last linear layer, as built; 0: there is none.
int classes_of(const networks::Graph &graph);

}  // namespace shufflenet::compile
