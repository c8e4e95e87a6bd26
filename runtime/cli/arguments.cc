// The only file that sees CLI11: it takes longer to compile than all commands together.
#include "arguments.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <limits>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "commands.h"
#include "error.h"
#include "images.h"
#include "runtime/src/isa.h"
#include "runtime/src/log.h"

namespace shufflenet::cli {

namespace {

constexpr int kMaxThreads = 256;

// What --help and the manual page say beside the options.
constexpr std::pair<std::string_view, std::string_view> kEnvironment[] = {
    {kIsaVariable, "an instruction set to use: one of a model's targets, see 'shufflenet list'"},
    {kLogVariable, "debug: say on stderr what is read, chosen and run, and how long it takes"},
    {"NO_COLOR", "anything: no colours on a terminal"}};
constexpr std::pair<std::string_view, std::string_view> kExitStatus[] = {
    {"0", "success"}, {"1", "bad input"}, {"2", "bad usage"}};

struct Command {
    CLI::App *app;
    std::function<int()> run;
};

OptionText describe(const CLI::Option &option) {
    constexpr auto kTakeAll = CLI::MultiOptionPolicy::TakeAll;
    OptionText text;
    for (const std::string &name : option.get_snames()) text.names.push_back("-" + name);
    for (const std::string &name : option.get_lnames()) text.names.push_back("--" + name);
    text.positional = option.get_positional();
    if (text.positional) text.names = {option.get_type_name()};
    if (option.get_items_expected_max() > 0) text.value = option.get_type_name();
    text.text = option.get_description();
    text.default_value = option.get_default_str();
    for (const CLI::Option *other : option.get_excludes()) text.not_with.push_back(other->get_name());
    std::sort(text.not_with.begin(), text.not_with.end());
    text.required = option.get_required();
    text.repeatable = option.get_items_expected_max() > 1 || option.get_multi_option_policy() == kTakeAll;
    return text;
}

CommandText describe_command(const CLI::App &app) {
    CommandText text{app.get_name(), app.get_description(), {}, app.get_footer()};
    for (const CLI::Option *option : app.get_options({})) text.options.push_back(describe(*option));
    std::stable_partition(text.options.begin(), text.options.end(),
                          [](const auto &option) { return option.positional; });
    return text;
}

ProgramText describe(const CLI::App &app) {
    ProgramText text{describe_command(app), {}, {}, {}};
    for (const CLI::App *command : app.get_subcommands({})) text.commands.push_back(describe_command(*command));
    for (const auto &[name, meaning] : kEnvironment)
        text.environment.push_back({std::string(name), std::string(meaning)});
    for (const auto &[name, meaning] : kExitStatus)
        text.exit_status.push_back({std::string(name), std::string(meaning)});
    return text;
}

CLI::App *add_command(CLI::App &parent, const std::string &name, const std::string &description) {
    return parent.add_subcommand(name, description)->group("Commands");
}

template <typename Options>
Command make_command(CLI::App *app, int (*command)(const Options &), std::shared_ptr<Options> options) {
    return {app, [command, options = std::move(options)] { return command(*options); }};
}

void add_weights(CLI::App &app, std::optional<std::string> &weights) {
    app.add_option("--weights", weights,
                   "Weights with torchvision's state_dict names;\ndefault: the embedded ones, if the model has them")
        ->type_name("FILE.safetensors");
}

void add_threads(CLI::App &app, int &threads) {
    app.add_option("--threads", threads,
                   "Threads that share the work of a run (1 to 256);\n0: as many as the process may use CPUs")
        ->check(CLI::Range(0, kMaxThreads).description(""))
        ->type_name("N")
        ->capture_default_str();
}

CLI::Option *add_device(CLI::App &app, std::optional<std::string> &device) {
    return app
        .add_option("--device", device,
                    "Run on a device that the model was compiled for, cuda or opencl, instead of on the CPU")
        ->check(CLI::IsMember({"cuda", "opencl"}).description(""))
        ->type_name("DEVICE");
}

Command add_list(CLI::App &parent) {
    auto options = std::make_shared<ListOptions>();
    CLI::App *app = add_command(parent, "list", "Show the models that this program was compiled with");
    app->add_flag("--json", options->json, "Print a JSON array of objects");
    app->footer(
        "'targets' are the instruction sets and devices that a model was compiled for. 'runs on' is the instruction\n"
        "set that this machine uses: the best that it has, or what the environment variable SHUFFLENET_ISA says.\n"
        "Devices are used where 'shufflenet run --device' asks for them.\n\n"
        "Example:\n  SHUFFLENET_ISA=avx2 shufflenet list");
    return make_command(app, list, options);
}

/// "stage3=path.npy"
RunOptions::OutputFile parse_output(const std::string &text) {
    const size_t equals = text.find('=');
    if (equals != 0 && equals < text.size() - 1) return {text.substr(0, equals), text.substr(equals + 1)};
    throw CLI::ValidationError("--features", "expected the name of an output, '=' and a path, found " + text);
}

Command add_run(CLI::App &parent) {
    auto options = std::make_shared<RunOptions>();
    CLI::App *app = add_command(parent, "run", "Run a model on tensors: .npy in, .npy out");
    app->add_option("--model", options->model, "Name of a model, as 'shufflenet list' shows it")
        ->required()
        ->type_name("MODEL");
    add_weights(*app, options->weights);
    app->add_option("--input", options->input, "float32 (N, 3, height, width), normalised already")
        ->required()
        ->type_name("X.npy");
    app->add_option("--output", options->output,
                    "Receives the first output: of a classifier its logits, float32 (N, classes)")
        ->type_name("Y.npy");
    app->add_option("--output-dir", options->output_dir,
                    "Receives every output as DIR/<output>.npy; created if it is missing")
        ->type_name("DIR");
    const auto take_features = [options = options.get()](const std::vector<std::string> &texts) {
        for (const std::string &text : texts) options->features.push_back(parse_output(text));
    };
    app->add_option_function<std::vector<std::string>>(
           "--features", take_features,
           "Write an output by its name, which 'shufflenet list --json' shows,\n"
           "float32 (N, channels, height, width); may be given several times")
        ->type_name("OUTPUT=FILE.npy")
        ->expected(1)
        ->take_all();
    add_device(*app, options->device);
    add_threads(*app, options->threads);
    app->footer(
        "Example:\n"
        "  shufflenet run --model shufflenet_v2_x1_0 --weights x1_0.safetensors --input x.npy --output y.npy \\\n"
        "    --features stage3=s3.npy --features conv5=c5.npy");
    app->callback([options] {
        if (options->output || options->output_dir || !options->features.empty()) return;
        throw CLI::RequiredError("--output, --output-dir or --features");
    });
    return make_command(app, run, options);
}

void check_images(const ClassifyOptions &options) {
    const bool list = options.files_from == kStandardInput;
    const auto dashes = std::count(options.images.begin(), options.images.end(), kStandardInput);
    if (dashes + (list ? 1 : 0) > 1) throw CLI::ValidationError("-", "standard input can be read only once");
    if (options.images.empty() && !options.files_from) throw CLI::RequiredError("images or --files-from");
}

Command add_classify(CLI::App &parent) {
    auto options = std::make_shared<ClassifyOptions>();
    CLI::App *app = add_command(parent, "classify", "Say what photographs show");
    app->add_option("images", options->images,
                    "JPEG, PNG, BMP, PPM or PGM files; folders, for all such files\n"
                    "in them and below; - for standard input")
        ->type_name("IMAGE");
    app->add_option("--files-from", options->files_from,
                    "Take more paths from a file, one on each line;\n- for standard input")
        ->type_name("LIST");
    app->add_option("--model", options->model,
                    "Name of a model, as 'shufflenet list' shows it;\ndefault: the default of that list")
        ->type_name("MODEL");
    add_weights(*app, options->weights);
    app->add_option("--labels", options->labels,
                    "Names of the classes, one a line;\ndefault: those of the metadata, or 'class N'")
        ->type_name("FILE.txt");
    app->add_option("--metadata", options->metadata,
                    "Resize, mean, std and labels; default: the .json beside the weight file,\n"
                    "then the embedded one, then torchvision's values for ImageNet")
        ->type_name("FILE.json");
    app->add_option("--top", options->top, "How many labels to show for each image")
        ->check(CLI::Range(1, std::numeric_limits<int>::max()).description(""))
        ->type_name("K")
        ->capture_default_str();
    app->add_flag("--no-orient", options->no_orient,
                  "Leave photographs as their pixels lie, as torchvision's evaluation does;\n"
                  "default: turn them upright, as their EXIF data say");
    CLI::Option *device = add_device(*app, options->device);
    add_threads(*app, options->threads);
    CLI::Option *json = app->add_flag("--json", options->json, "Print one line for each image: a JSON object");
    CLI::Option *csv = app->add_flag("--csv", options->csv, "Print comma-separated values: a line for each label");
    csv->excludes(json);
    app->add_flag("--peak", options->peak, "Compare the speed with this machine's multiply-add peak")
        ->excludes(json)
        ->excludes(csv)
        ->excludes(device);
    app->callback([options] { check_images(*options); });
    app->footer(
        "A folder's images are the files whose names end in .jpg, .jpeg, .jpe, .jfif, .png, .bmp, .ppm, .pgm or .pnm,\n"
        "sorted by path. Links are followed, but no folder is looked into twice; names that start with a dot are\n"
        "passed over; other files, and links that lead nowhere new, are counted. An image that cannot be read is\n"
        "reported, the others are classified, and the exit status is 1. A file named - is ./-.\n\n"
        "Examples:\n"
        "  shufflenet classify --top 3 cat.jpg dog.png\n"
        "  shufflenet classify --csv photos/ > labels.csv\n"
        "  curl -s https://example.org/cat.jpg | shufflenet classify -\n"
        "  shufflenet classify --model shufflenet_v2_x1_0 --weights x1_0.safetensors --labels imagenet.txt cat.jpg");
    return make_command(app, classify, options);
}

Command add_info(CLI::App &parent) {
    auto options = std::make_shared<InfoOptions>();
    CLI::App *app = add_command(parent, "info", "Show a model's layers: shapes, FLOPs, memory access, parameters");
    app->add_option("model", options->model,
                    "Name of a model, as 'shufflenet list' shows it,\nor of a network, which is shown at 224x224")
        ->required()
        ->type_name("MODEL");
    app->add_flag("--json", options->json, "Print a JSON object");
    app->footer(
        "FLOPs are multiply-adds, as in the ShuffleNetV2 paper. MAC is its memory access cost: elements of input,\n"
        "output and weights. MAC/bound compares a 1x1 convolution with the least MAC that its FLOPs allow (G1).\n\n"
        "Example:\n  shufflenet info shufflenet_v2_x1_0");
    return make_command(app, info, options);
}

Command add_convert(CLI::App &parent) {
    auto options = std::make_shared<ConvertOptions>();
    CLI::App *app = add_command(parent, "convert", "Check a weight file and write it in canonical form");
    app->add_option("input", options->input,
                    "safetensors file with torchvision's or Megvii's state_dict names,\nor ONNX graph")
        ->required()
        ->type_name("IN.onnx|IN.safetensors");
    app->add_option(
           "output", options->output,
           "Receives the weights alone, with torchvision's names and\nchannel order, sorted by name; may be the "
           "input")
        ->required()
        ->type_name("OUT.safetensors");
    app->add_option("--network", options->network, "Network that it must be of; default: recognised by its shapes")
        ->type_name("NETWORK");
    CLI::Option *f16 = app->add_flag("--f16", options->f16, "Convert to half precision, rounded to nearest even");
    app->add_flag("--f32", options->f32, "Convert to single precision")->excludes(f16);
    app->footer(
        "ONNX graphs: exports of torchvision's ShuffleNetV2 (operator sets 9 to 22), batch normalisation folded or "
        "not,\n"
        "simplified or not, FLOAT or FLOAT16, which become F32. Megvii's own network: x0.5 only, the wider ones split\n"
        "stage 2 otherwise. What differs is named by its node. PyTorch's own files are refused, with a way in "
        "Python.\n\n"
        "Examples:\n"
        "  shufflenet convert model.onnx model.safetensors\n"
        "  shufflenet convert --f16 shufflenet_v2_x1_0.safetensors small.safetensors");
    return make_command(app, convert, options);
}

Command add_verify(CLI::App &parent) {
    auto options = std::make_shared<VerifyOptions>();
    CLI::App *app = add_command(parent, "verify", "Compare a model's outputs with those of an ONNX file");
    app->add_option("model", options->model, "Name of a model, as 'shufflenet list' shows it")
        ->required()
        ->type_name("MODEL");
    add_weights(*app, options->weights);
    app->add_option("--onnx", options->onnx, "The network to compare with")->required()->type_name("M.onnx");
    app->add_option("--input", options->inputs,
                    "What to run on, beside random inputs: .npy files, float32 (N, 3,\nheight, width), or photographs, "
                    "turned upright as by classify")
        ->type_name("X.npy|IMAGE");
    app->add_option("--tolerance", options->tolerance, "Largest error, as a share of an output's range")
        ->check(CLI::NonNegativeNumber.description(""))
        ->type_name("T");
    CLI::Option *library = app->add_option("--onnxruntime", options->onnxruntime,
                                           "ONNX Runtime's library; default: libonnxruntime.so, if there is one")
                               ->type_name("LIBRARY.so");
    app->add_flag("--reference", options->reference,
                  "Compare with the naive double-precision reference even if there is\nONNX Runtime")
        ->excludes(library);
    add_threads(*app, options->threads);
    app->add_flag("--json", options->json, "Print a JSON object");
    app->footer(
        "The other side is ONNX Runtime or, where there is none, a naive implementation in double precision that "
        "takes\n"
        "its weights from the ONNX file. Outputs are the logits, and stages 2 to 4 and conv5 where the graph has "
        "them.\n\n"
        "Errors are the worst of all inputs: absolute; relative to the range of the other side's output; and in ULP,\n"
        "floats between the two values, counted where the value is at least a thousandth of the range. The default\n"
        "tolerance is 4 u sqrt(K): u = 2^-24 rounds a float, K is how many products are summed on the way from the\n"
        "input to one logit, and 4 allows for two sides that round and for two standard deviations. With weights in\n"
        "half precision on either side, 4 u sqrt(L) is added: u = 2^-11, L layers. Exit status 1 if it is exceeded.\n\n"
        "Example:\n"
        "  shufflenet verify shufflenet_v2_x1_0 --weights x1_0.safetensors --onnx x1_0.onnx --input cat.jpg dog.jpg");
    return make_command(app, verify, options);
}

Command add_completion(CLI::App &parent) {
    auto options = std::make_shared<CompletionOptions>();
    CLI::App *app = add_command(parent, "completion", "Print a script that completes this command line in a shell");
    app->add_option("shell", options->shell, "bash, zsh or fish")
        ->required()
        ->check(CLI::IsMember(shells()).description(""))
        ->type_name("SHELL");
    app->callback([options, &parent] { options->program = describe(parent); });
    app->footer(
        "In ~/.bashrc, or in ~/.zshrc after compinit, a line does; fish has a folder for such files.\n\n"
        "Examples:\n"
        "  source <(shufflenet completion bash)\n"
        "  source <(shufflenet completion zsh)\n"
        "  shufflenet completion fish > ~/.config/fish/completions/shufflenet.fish");
    return make_command(app, completion, options);
}

Command add_manual(CLI::App &parent) {
    auto options = std::make_shared<ManualOptions>();
    CLI::App *app = add_command(parent, "manual", "Print the manual page, for man");
    app->callback([options, &parent] { options->program = describe(parent); });
    app->footer("Example:\n  shufflenet manual | man -l -");
    return make_command(app, manual, options);
}

/// Names and texts in columns.
std::string list_text(std::span<const std::pair<std::string_view, std::string_view>> rows) {
    size_t width = 0;
    for (const auto &[name, text] : rows) width = std::max(width, name.size());
    std::string list;
    for (const auto &[name, text] : rows) {
        list += "  " + std::string(name) + std::string(width - name.size() + 2, ' ') + std::string(text) + "\n";
    }
    return list;
}

void describe_program(CLI::App &app) {
    app.description("Image classification with ShuffleNetV2 networks that were compiled ahead of time.");
    app.footer("'shufflenet COMMAND --help' explains a command and gives an example.\n\nEnvironment:\n" +
               list_text(kEnvironment) + "\nExit status:\n" + list_text(kExitStatus) +
               "\nExample:\n  shufflenet classify cat.jpg");
    app.set_version_flag("--version", version_text, "Print version, compilers and targets, and exit");
    app.require_subcommand(1);
    app.get_formatter()->column_width(34);
    app.get_formatter()->label("SUBCOMMAND", "COMMAND");
}

std::function<int()> print(std::string text) {
    return [text = std::move(text)] {
        std::cout << text;
        return 0;
    };
}

UsageError usage_error(const CLI::App &app, const std::string &message) {
    std::string help = "shufflenet ";
    for (const CLI::App *command : app.get_subcommands()) help += command->get_name() + " ";
    return UsageError{message + " (see " + help + "--help)"};
}

/// CLI11 would only say that a command is required, not what it found instead.
std::string without_command(int argc, char **argv) {
    if (argc < 2) return "a command is required";
    return (argv[1][0] == '-' ? "unknown option: " : "unknown command: ") + std::string(argv[1]);
}

}  // namespace

std::function<int()> parse_arguments(int argc, char **argv) {
    CLI::App app("", "shufflenet");
    describe_program(app);
    const Command commands[] = {add_list(app),    add_run(app),    add_classify(app),   add_info(app),
                                add_convert(app), add_verify(app), add_completion(app), add_manual(app)};
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp &) {
        return print(app.help());
    } catch (const CLI::CallForVersion &version) {
        return print(version.what());
    } catch (const CLI::ParseError &error) {
        const bool has_command = !app.get_subcommands().empty();
        throw usage_error(app, has_command ? error.what() : without_command(argc, argv));
    }
    for (const Command &command : commands) {
        if (command.app->parsed()) return command.run;
    }
    throw usage_error(app, without_command(argc, argv));
}

}  // namespace shufflenet::cli
