#include "report.h"

#include <vector>

namespace shufflenet::compile {

namespace {

std::string size_text(Size size) { return std::to_string(size.height) + "x" + std::to_string(size.width); }

std::string mib(int64_t bytes) {
    const int64_t hundredths = bytes * 100 / (1 << 20);
    const std::string rest = std::to_string(hundredths % 100);
    return std::to_string(hundredths / 100) + "." + (rest.size() < 2 ? "0" : "") + rest + " MiB";
}

}  // namespace

std::string check_text(const networks::Program &program) {
    const networks::Graph &graph = program.graph;
    std::string text = "network: " + graph.name + " at " + size_text(graph.input) + "\n";
    text += "multiply-adds: " + std::to_string(total_cost(graph).flops) + "\n";
    text += "layers: " + std::to_string(graph.layers.size()) + "\n";
    text += "kernels: " + std::to_string(program.kernels.size()) + "\n";
    text += "calls: " + std::to_string(program.calls.size()) + "\n";
    text +=
        "copies: " + std::to_string(program.copies.size()) + ", " + std::to_string(program.bytes_moved()) + " bytes\n";
    for (const networks::Program::Copy &copy : program.copies) {
        text += "  " + program.calls[static_cast<size_t>(copy.call)].id + ": " + std::to_string(copy.bytes) +
                " bytes: " + copy.reason + "\n";
    }
    text += "arena: " + mib(int64_t{4} * program.arena_floats) + "\n";
    text += "weights: " + mib(int64_t{4} * program.weight_floats) + "\n";
    for (const networks::ProgramOutput &output : program.outputs) {
        text += "output: " + output.name + " " + std::to_string(output.channels) + "x" + size_text(output.size) + "\n";
    }
    return text;
}

std::string kernels_text(const networks::Program &program) {
    std::vector<std::string> lines;
    for (const networks::Kernel &kernel : program.kernels) lines.push_back(key(kernel));
    for (const networks::Call &call : program.calls) lines[static_cast<size_t>(call.kernel)] += " " + call.id;
    std::string text;
    for (const std::string &line : lines) text += line + "\n";
    return text;
}

}  // namespace shufflenet::compile
