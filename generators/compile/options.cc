// The only file that sees CLI11, which takes long to compile.
#include "options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <iostream>
#include <limits>
#include <string_view>

#include "networks/catalog.h"
#include "networks/devices.h"
#include "shufflenet/version.h"

namespace shufflenet::compile {

namespace {

constexpr int kMostJobs = 1024;

/// Options as they are typed.
struct Typed {
    std::string processor, precision = "f32", classifier_bits = "32", activation;
    std::vector<std::string> units, channels, input, pool_stride, targets, devices, outputs;
    std::string conv5, classes, jobs, cuda_capability;
    bool embed = false, embed_half = false, check = false, list = false, halide_runtime = false, program = false;
};

[[noreturn]] void bad_value(const std::string &flag, const std::string &expected, const std::string &found) {
    throw UsageError(flag + ": expected " + expected + ", found " + (found.empty() ? "nothing" : "'" + found + "'"));
}

std::string joined(const std::vector<std::string> &texts) {
    std::string all;
    for (const std::string &text : texts) all += (all.empty() ? "" : ",") + text;
    return all;
}

std::string range_text(int least, int most) {
    return most == std::numeric_limits<int>::max() ? std::to_string(least) + " or more"
                                                   : std::to_string(least) + " to " + std::to_string(most);
}

bool parse_int(const std::string &text, int *value) {
    const char *end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, *value);
    return error == std::errc() && stop == end;
}

int number(const std::string &flag, const std::string &text, int least, int most) {
    int value = 0;
    if (!parse_int(text, &value) || value < least || value > most) bad_value(flag, range_text(least, most), text);
    return value;
}

std::vector<int> numbers(const std::string &flag, const std::vector<std::string> &texts, int least) {
    std::vector<int> values;
    for (const std::string &text : texts) {
        int value = 0;
        if (!parse_int(text, &value) || value < least) {
            bad_value(flag, "numbers of " + std::to_string(least) + " or more with commas between", joined(texts));
        }
        values.push_back(value);
    }
    return values;
}

Size size(const std::string &flag, const std::vector<std::string> &texts, int least, int most) {
    std::vector<int> values(texts.size());
    bool good = texts.size() == 2;
    for (size_t i = 0; i < texts.size(); ++i) {
        good = good && parse_int(texts[i], &values[i]) && values[i] >= least && values[i] <= most;
    }
    if (!good) bad_value(flag, "rows and columns, two numbers from " + range_text(least, most), joined(texts));
    return {values[0], values[1]};
}

/// A C identifier in lower case.
bool is_identifier(std::string_view name) {
    const auto letter = [](char ch) { return ch >= 'a' && ch <= 'z'; };
    const auto digit = [](char ch) { return ch >= '0' && ch <= '9'; };
    return !name.empty() && letter(name[0]) &&
           std::ranges::all_of(name, [&](char ch) { return letter(ch) || digit(ch) || ch == '_'; });
}

std::string network_names() {
    std::string names = "shufflenet_v2";
    for (const auto &row : networks::published_networks()) {
        if (!row.test) names += ", " + row.name;
    }
    return names;
}

std::string processor_of(const std::string &typed) {
    std::string names;
    for (const TargetSpec &target : kTargets) {
        if (target.processor == typed) return typed;
        if (names.find(target.processor) == std::string::npos) {
            (names += names.empty() ? "" : " or ") += target.processor;
        }
    }
    bad_value("--processor", names, typed);
}

/// A processor's first target, which every such processor can execute.
constexpr std::string_view kBaseline = "baseline";

/// Names that stand for all targets of a processor.
std::string_view processor_alias(std::string_view text) {
    if (text == "x86") return "x86_64";
    if (text == "arm64") return "aarch64";
    return {};
}

/// Sets targets, and the processor if it was not given.
void read_targets(const Typed &typed, Options *options) {
    const std::vector<std::string> names = typed.targets.empty() ? std::vector<std::string>{"all"} : typed.targets;
    std::string processor = typed.processor;
    const auto wants = [&](const TargetSpec &target) {
        return std::ranges::any_of(names, [&](const std::string &name) {
            const bool own = target.processor == processor;
            return name == target.name || processor_alias(name) == target.processor || (name == "all" && own) ||
                   (name == kBaseline && own && options->targets.empty());
        });
    };
    for (const std::string &name : names) {
        if (name == "all" || name == kBaseline) {
            if (processor.empty()) processor = kProcessor;
        } else if (find_target(name) == nullptr && processor_alias(name).empty()) {
            bad_value("--targets", "some of " + target_names() + ", x86, arm64, baseline, all", name);
        }
    }
    for (const TargetSpec &target : kTargets) {
        if (!wants(target)) continue;
        if (processor.empty()) processor = target.processor;
        if (target.processor != processor) {
            bad_value("--targets", "instruction sets of one processor, " + processor, std::string(target.name));
        }
        options->targets.push_back(&target);
    }
    options->processor = processor_of(processor.empty() ? std::string(kProcessor) : processor);
}

void read_devices(const Typed &typed, Options *options) {
    for (const std::string &name : typed.devices) {
        if (find_device(name) == nullptr) bad_value("--devices", "some of " + device_names(), name);
    }
    for (const DeviceSpec &device : kDevices) {
        if (std::ranges::find(typed.devices, device.name) != typed.devices.end()) options->devices.push_back(&device);
    }
    if (typed.cuda_capability.empty()) return;
    constexpr std::array kCapabilities = {"70", "75", "80"};
    if (std::ranges::find(kCapabilities, typed.cuda_capability) == kCapabilities.end()) {
        bad_value("--cuda-capability", "70, 75 or 80", typed.cuda_capability);
    }
    parse_int(typed.cuda_capability, &options->cuda_capability);
}

void read_activation(const Typed &typed, Options *options) {
    if (typed.activation.empty()) return;
    networks::Activation activation;
    if (!networks::parse_activation(typed.activation, &activation)) {
        bad_value("--activation", "none, relu, relu6 or leaky_relu:SLOPE", typed.activation);
    }
    options->activation = activation;
}

/// What only the family takes is not for a published row, and the reverse.
void check_network(const Typed &typed, const Options &options) {
    if (options.network == "shufflenet_v2") {
        if (typed.units.empty()) bad_value("--units", "units of each stage, for --network shufflenet_v2", "");
        if (typed.channels.empty()) {
            bad_value("--channels", "channels of the stem and of each stage, for --network shufflenet_v2", "");
        }
        return;
    }
    const networks::PublishedNetwork *row = networks::find_published(options.network);
    if (row == nullptr) bad_value("--network", "one of " + network_names(), options.network);
    const std::pair<const char *, std::string> family_only[] = {{"--units", joined(typed.units)},
                                                                {"--channels", joined(typed.channels)},
                                                                {"--conv5", typed.conv5},
                                                                {"--activation", typed.activation},
                                                                {"--pool-stride", joined(typed.pool_stride)}};
    for (const auto &[flag, text] : family_only) {
        if (!text.empty()) {
            throw UsageError(std::string(flag) + ": expected with --network shufflenet_v2 only, found --network " +
                             options.network);
        }
    }
}

/// An ONNX file says all of it but, at times, its input's size.
void read_onnx_options(const Typed &typed, Options *options) {
    const std::pair<const char *, std::string> others[] = {{"--network", options->network},
                                                           {"--units", joined(typed.units)},
                                                           {"--channels", joined(typed.channels)},
                                                           {"--conv5", typed.conv5},
                                                           {"--classes", typed.classes},
                                                           {"--activation", typed.activation},
                                                           {"--pool-stride", joined(typed.pool_stride)},
                                                           {"--outputs", joined(options->outputs)},
                                                           {"--weights", options->weights}};
    for (const auto &[flag, text] : others) {
        if (!text.empty()) throw UsageError(std::string(flag) + ": expected none with --onnx, found " + text);
    }
    options->has_input = !typed.input.empty();
    if (options->has_input) options->input = size("--input", typed.input, 1, kMaxInput);
}

void read_network(const Typed &typed, Options *options) {
    if (!options->onnx.empty()) return read_onnx_options(typed, options);
    if (options->network.empty()) bad_value("--network", "one of " + network_names(), "");
    check_network(typed, *options);
    options->units = numbers("--units", typed.units, 1);
    options->channels = numbers("--channels", typed.channels, 1);
    if (!typed.conv5.empty()) {
        options->conv5 = number("--conv5", typed.conv5, 0, std::numeric_limits<int>::max());
    }
    if (!typed.classes.empty()) options->classes = number("--classes", typed.classes, 0, kMaxClasses);
    if (!typed.pool_stride.empty()) options->pool_stride = size("--pool-stride", typed.pool_stride, 1, 2);
    read_activation(typed, options);
    const networks::PublishedNetwork *row = networks::find_published(options->network);
    const int least = row != nullptr && row->test ? 1 : kMinInput;
    if (!typed.input.empty()) options->input = size("--input", typed.input, least, kMaxInput);
    if (row != nullptr && typed.input.empty()) options->input = {row->crop, row->crop};
}

void read_mode(const Typed &typed, Options *options) {
    const int modes = int{typed.check} + int{typed.list} + int{typed.halide_runtime};
    if (modes > 1) throw UsageError("--check, --list-kernels, --halide-runtime: expected one of them at most");
    options->mode = typed.check            ? Mode::kCheck
                    : typed.list           ? Mode::kListKernels
                    : typed.halide_runtime ? Mode::kHalideRuntime
                                           : Mode::kModel;
}

void read_embed(const Typed &typed, Options *options) {
    if (typed.embed && typed.embed_half) throw UsageError("--embed, --embed-f16: expected one of them at most");
    options->embed = typed.embed ? Embed::kPacked : typed.embed_half ? Embed::kHalf : Embed::kNo;
    if (options->embed != Embed::kNo && options->weights.empty() && options->onnx.empty()) {
        bad_value("--weights", "a file, for --embed and --embed-f16", "");
    }
}

void interpret(const Typed &typed, Options *options) {
    read_mode(typed, options);
    if (typed.program) throw UsageError("--program: expected no such option, which is not made yet");
    read_targets(typed, options);
    read_devices(typed, options);
    if (!typed.jobs.empty()) options->jobs = number("--jobs", typed.jobs, 1, kMostJobs);
    if (typed.classifier_bits == "16") {
        options->linear = Element::kS16;
    } else if (typed.classifier_bits != "32") {
        bad_value("--classifier-bits", "16 or 32", typed.classifier_bits);
    }
    if (typed.precision != "f32") bad_value("--precision", "f32, the only one that there is yet", typed.precision);
    const bool writes = options->mode == Mode::kModel || options->mode == Mode::kHalideRuntime;
    if (writes && options->output.empty()) bad_value("--output", "where to write", "");
    if (options->mode == Mode::kHalideRuntime) return;
    if (options->mode == Mode::kModel && !is_identifier(options->name)) {
        bad_value("--name", "a C identifier in lower case", options->name);
    }
    read_network(typed, options);
    read_embed(typed, options);
}

void add_network_options(CLI::App &app, Typed &typed, Options &options) {
    app.add_option("--name", options.name, "What the model is called: a C identifier in lower case");
    app.add_option("--network", options.network, "A published network, or shufflenet_v2, the family, by what follows")
        ->type_name("NETWORK");
    app.add_option("--onnx", options.onnx, "A network with its weights, in place of all that follows but --input")
        ->type_name("FILE.onnx");
    app.add_option("--units", typed.units, "Units of each stage, from stage 2 on")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("4,8,4");
    app.add_option("--channels", typed.channels, "Channels of the stem and of each stage")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("24,116,232,464");
    app.add_option("--conv5", typed.conv5, "Channels of conv5; without it there is none")->type_name("N");
    app.add_option("--classes", typed.classes,
                   "Classes; a published network has 1000, the family no classifier without it")
        ->type_name("N");
    app.add_option("--activation", typed.activation, "none, relu, relu6 or leaky_relu:SLOPE")->type_name("ACTIVATION");
    app.add_option("--pool-stride", typed.pool_stride, "Of the stem's max-pool, rows and columns")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("2,2");
    app.add_option("--outputs", options.outputs, "What a run returns; default: the last that there is")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("stage2,stage3,...");
    app.add_option("--input", typed.input, "Height and width of the input")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("224,224");
}

void add_target_options(CLI::App &app, Typed &typed, Options &options) {
    app.add_option("--targets", typed.targets,
                   "Instruction sets: some of " + target_names() + "; x86, arm64, baseline or all")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("avx2,avx512,...");
    app.add_option("--devices", typed.devices, "Devices beside the CPU: some of " + device_names())
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("cuda,...");
    app.add_option("--cuda-capability", typed.cuda_capability,
                   "Oldest compute capability that CUDA's kernels are for: 70 (the default), 75 or 80")
        ->type_name("N");
    app.add_option("--processor", typed.processor, "x86_64 or aarch64; default: this program's")->type_name("P");
    app.add_option("--precision", typed.precision, "f32")->type_name("P");
    app.add_option("--classifier-bits", typed.classifier_bits,
                   "Of the last linear layer's weights: 32 (the default), or 16, half as much to read")
        ->type_name("N");
    app.add_option(
           "--tuned", options.tuned,
           "Tuned numbers of one target, or a folder with <target>.json of several, in place of those that this\n"
           "program has")
        ->type_name("PATH");
    app.add_flag("--reference", options.reference, "Plain loops, for tests");
    app.add_flag("--asan", options.asan, "Instrument the kernels for AddressSanitizer");
}

void add_data_options(CLI::App &app, Typed &typed, Options &options) {
    app.add_option("--weights", options.weights, "Weights, to check and to embed")->type_name("FILE.safetensors");
    app.add_flag("--embed", typed.embed, "Embed the weights, packed: nothing is read when the model is opened");
    app.add_flag("--embed-f16", typed.embed_half, "Embed the weights in half precision, half as large");
    app.add_option("--metadata", options.metadata, "Labels and what images need, to embed")->type_name("FILE.json");
}

void add_output_options(CLI::App &app, Typed &typed, Options &options) {
    app.add_option("--output", options.output, "Folder for libNAME.a and NAME.h; of --halide-runtime the file")
        ->type_name("DIR");
    app.add_option("--depfile", options.depfile, "Receives what was read, for make and ninja")->type_name("FILE.d");
    app.add_option("--jobs", typed.jobs, "Kernels to compile at a time; default: as many as there are processors")
        ->type_name("N");
    app.add_flag("--quiet", options.quiet, "Print nothing but errors");
    app.add_option("--cxx", options.cxx, "C++ compiler, which also assembles; default: $CXX, or c++")
        ->type_name("COMPILER");
    app.add_flag("--objects", options.objects,
                 "Write objects, without the runtime, and NAME.cc, to be compiled, instead of libNAME.a");
    app.add_option("--ar", options.ar, "What makes libNAME.a; default: $AR, or ar")->type_name("AR");
    app.add_option("--runtime", options.runtime, "Libraries and objects of the runtime; default: this program's")
        ->type_name("FILE.a");
    app.add_option("--abi", options.abi, "Name of the runtime that it is linked with; default: this program's")
        ->type_name("NAME");
    app.add_option("--include", options.include, "Where its headers are; default: this program's")->type_name("DIR");
    app.add_flag("--program", typed.program, "Not made yet");
}

void add_modes(CLI::App &app, Typed &typed, Options &options) {
    app.add_flag("--check", typed.check, "Only say what would be compiled");
    app.add_flag("--list-kernels", typed.list,
                 "Only list the kernels, with --devices theirs: each one's key, and the calls that use it");
    app.add_flag("--halide-runtime", typed.halide_runtime,
                 "Only write what kernels need of Halide's runtime, an object or, as FILE.s, its assembly");
    app.add_flag("--whole", options.whole, "Of --halide-runtime: all of it, under its own names");
}

}  // namespace

std::optional<Options> parse_options(int argc, char **argv) {
    CLI::App app("Compiles a network, fixed in all its sizes, to objects, a descriptor and a C header.",
                 "shufflenet_compile");
    Options options;
    Typed typed;
    add_network_options(app, typed, options);
    add_target_options(app, typed, options);
    add_data_options(app, typed, options);
    add_output_options(app, typed, options);
    add_modes(app, typed, options);
    app.set_version_flag("--version", "shufflenet_compile " SHUFFLENET_VERSION);
    app.footer("Example:\n  shufflenet_compile --name pets --network shufflenet_v2_x1_0 --classes 37 --output build");
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp &) {
        std::cout << app.help();
        return std::nullopt;
    } catch (const CLI::CallForVersion &) {
        std::cout << "shufflenet_compile " SHUFFLENET_VERSION "\n";
        return std::nullopt;
    } catch (const CLI::ParseError &error) {
        throw UsageError(error.what());
    }
    interpret(typed, &options);
    return options;
}

}  // namespace shufflenet::compile
