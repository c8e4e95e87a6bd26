#include "assembly.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <deque>
#include <stdexcept>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "shufflenet/version.h"

namespace shufflenet::compile {

namespace {

#define SHUFFLENET_TEXT_OF(token) #token
#define SHUFFLENET_TEXT(macro) SHUFFLENET_TEXT_OF(macro)
constexpr std::string_view kPrefix = "shufflenet_" SHUFFLENET_TEXT(SHUFFLENET_ABI) "_";

bool begins_name(char ch) { return std::isalpha(static_cast<unsigned char>(ch)) != 0 || ch == '_' || ch == '.'; }
bool continues_name(char ch) { return begins_name(ch) || std::isdigit(static_cast<unsigned char>(ch)) != 0; }

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view kSpace = " \t\r";
    const size_t first = text.find_first_not_of(kSpace);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

/// Where each character of a line is, for who goes through it: within quotes or not.
class Quotes {
  public:
    /// Whether `ch`, the next one, is text in quotes, or one of them.
    bool take(char ch) {
        if (escaped_) {
            escaped_ = false;
            return true;
        }
        if (ch == '"') {
            open_ = !open_;
            return true;
        }
        escaped_ = open_ && ch == '\\';
        return open_;
    }

  private:
    bool open_ = false, escaped_ = false;
};

/// Calls name(text) for every name in a line and other(text) for what is before, between and after them.
template <typename Name, typename Other>
void scan(std::string_view line, const Name &name, const Other &other) {
    Quotes quotes;
    size_t done = 0;
    for (size_t at = 0; at < line.size(); ++at) {
        if (quotes.take(line[at]) || !begins_name(line[at]) || (at > 0 && continues_name(line[at - 1]))) continue;
        other(line.substr(done, at - done));
        done = at;
        while (done < line.size() && continues_name(line[done])) ++done;
        name(line.substr(at, done - at));
        at = done - 1;
    }
    other(line.substr(done));
}

std::string_view without_comment(std::string_view line, std::string_view comment) {
    Quotes quotes;
    for (size_t at = 0; at < line.size(); ++at) {
        if (!quotes.take(line[at]) && line.substr(at).starts_with(comment)) return line.substr(0, at);
    }
    return line;
}

/// A directive or an instruction, and what follows it.
std::pair<std::string_view, std::string_view> split(std::string_view line) {
    const size_t end = std::min(line.find_first_of(" \t"), line.size());
    return {line.substr(0, end), trimmed(line.substr(end))};
}

bool is_label(std::string_view line) {
    return line.ends_with(':') && std::ranges::all_of(line.substr(0, line.size() - 1), continues_name);
}
std::string_view label_of(std::string_view line) { return line.substr(0, line.size() - 1); }

/// A piece that is kept or dropped as a whole: a section of code, or one object of a section of data.
struct Atom {
    std::string_view section;
    bool code = false;
    std::vector<std::string_view> lines;
};

/// An assembly file in pieces. All text is a view of what was parsed or made.
class File {
  public:
    File(std::string_view assembly, const Processor &processor) {
        while (!assembly.empty()) {
            const size_t end = std::min(assembly.find('\n'), assembly.size());
            const std::string_view line = trimmed(without_comment(assembly.substr(0, end), processor.comment));
            if (!line.empty()) add(line);
            assembly.remove_prefix(std::min(end + 1, assembly.size()));
        }
        for (size_t i = 0; i < atoms.size(); ++i) {
            for (const std::string_view line : atoms[i].lines) {
                if (is_label(line) && !defined.emplace(label_of(line), i).second) {
                    throw std::runtime_error("assembly: " + std::string(line) + " there are two of it");
                }
            }
        }
    }

    std::vector<Atom> atoms;
    std::unordered_map<std::string_view, size_t> defined;  ///< The atom that has a label.
    std::unordered_set<std::string_view> weak;
    std::unordered_map<std::string_view, std::string_view> types;  ///< "@function" or "@object".

  private:
    void add(std::string_view line) {
        const auto [word, rest] = split(line);
        if (is_label(line)) {
            begin_object();
            atom().lines.push_back(line);
        } else if (word == ".section" || word == ".text" || word == ".data" || word == ".bss") {
            const bool code = word == ".text" || (word == ".section" && rest.starts_with(".text"));
            atoms.push_back({line, code, {}});
        } else if (word == ".comm") {
            add_zeros(rest);
        } else if (!set_attribute(word, rest)) {
            atom().lines.push_back(line);
        }
    }

    /// "name,size,alignment": an object of zeros, which here is one of .bss.
    void add_zeros(std::string_view rest) {
        const size_t size = std::min(rest.find(','), rest.size()),
                     end = std::min(rest.find(',', size + 1), rest.size());
        const auto own = [&](const std::string &text) { return std::string_view(made_.emplace_back(text)); };
        const Atom before{atom().section, atom().code, {}};
        const std::string alignment(rest.substr(std::min(end + 1, rest.size())));
        atoms.push_back(
            {".bss",
             false,
             {own(".balign " + (alignment.empty() ? "1" : alignment)), own(std::string(rest.substr(0, size)) + ":"),
              own(".zero " + std::string(rest.substr(size + 1, end - size - 1)))}});
        atoms.push_back(before);
    }

    /// At a label: another object than the one before, unless it is the same one's second name. Alignment goes with it.
    void begin_object() {
        const auto aligns = [](std::string_view line) { return split(line).first == ".p2align"; };
        if (atom().code) return;
        std::vector<std::string_view> &lines = atom().lines;
        const auto last = std::find_if_not(lines.rbegin(), lines.rend(), aligns);
        if (last == lines.rend() || is_label(*last)) return;
        Atom next{atom().section, false, {last.base(), lines.end()}};
        lines.erase(last.base(), lines.end());
        atoms.push_back(std::move(next));
    }

    /// Attributes are written where the symbol is, wherever they were. False: it is no attribute.
    bool set_attribute(std::string_view word, std::string_view rest) {
        constexpr std::array kUnknown = {".set", ".equ", ".lcomm", ".symver", ".weakref"};
        constexpr std::array kDropped = {".globl", ".hidden", ".protected", ".local",      ".file",
                                         ".loc",   ".ident",  ".addrsig",   ".addrsig_sym"};
        if (std::ranges::find(kUnknown, word) != kUnknown.end() || rest.starts_with('=')) {
            throw std::runtime_error("assembly: unexpected " + std::string(word));
        }
        if (word == ".weak") {
            weak.insert(rest);
        } else if (word == ".type") {
            const size_t comma = std::min(rest.find(','), rest.size() - 1);
            types[rest.substr(0, comma)] = trimmed(rest.substr(comma + 1));
        } else if (std::ranges::find(kDropped, word) == kDropped.end()) {
            return false;
        }
        return true;
    }

    std::deque<std::string> made_;

    Atom &atom() {
        if (atoms.empty()) atoms.push_back({".text", true, {}});
        return atoms.back();
    }
};

/// Whether each atom is kept: those of exported symbols, and what they reach.
std::vector<bool> reached(const File &file, const Module &module) {
    std::vector<bool> kept(file.atoms.size());
    std::vector<size_t> left;
    const auto keep = [&](std::string_view name) {
        const auto found = file.defined.find(name);
        if (found == file.defined.end() || kept[found->second]) return;
        kept[found->second] = true;
        left.push_back(found->second);
    };
    for (const auto &[name, atom] : file.defined) {
        if (module.exported(name)) keep(name);
    }
    while (!left.empty()) {
        const Atom &atom = file.atoms[left.back()];
        left.pop_back();
        for (const std::string_view line : atom.lines) scan(line, keep, [](std::string_view) {});
    }
    return kept;
}

/// A group of sections of which a linker would keep one is none here: its symbols are this file's own.
std::string section_line(std::string_view line) {
    constexpr std::string_view kGroup = ",comdat";
    std::string text(line);
    if (!text.ends_with(kGroup)) return text;
    text.resize(text.rfind(',', text.size() - kGroup.size() - 1));
    text.erase(text.find('G', text.find(",\"")), 1);
    return text;
}

class Writer {
  public:
    Writer(const File &file, const Module &module) : file_(file), module_(module) {}

    std::string write() {
        const std::vector<bool> kept = reached(file_, module_);
        std::string_view section;
        for (size_t i = 0; i < file_.atoms.size(); ++i) {
            if (!kept[i]) continue;
            const Atom &atom = file_.atoms[i];
            if (atom.section != section) out_ += section_line(atom.section) + '\n';
            section = atom.section;
            for (const std::string_view line : atom.lines) write_line(line);
        }
        return std::move(out_);
    }

  private:
    void write_line(std::string_view line) {
        if (is_label(line)) write_attributes(label_of(line));
        // Halide can only ask for prefetching around the second-level cache, but weights are read again by the next
        // tile of pixels: there they must be.
        if (split(line).first == "prefetchnta") {
            out_ += "prefetcht1\t";
            line = split(line).second;
        }
        scan(
            line, [&](std::string_view name) { write_name(name); }, [&](std::string_view text) { out_ += text; });
        out_ += '\n';
    }

    void write_attributes(std::string_view symbol) {
        const auto add = [&](std::string_view directive, std::string_view value = {}) {
            out_ += directive;
            out_ += ' ';
            write_name(symbol);
            out_ += value;
            out_ += '\n';
        };
        if (module_.exported(symbol)) {
            add(file_.weak.contains(symbol) ? ".weak" : ".globl");
            add(".hidden");
        }
        const auto type = file_.types.find(symbol);
        if (type != file_.types.end()) add(".type", "," + std::string(type->second));
    }

    void write_name(std::string_view name) {
        constexpr std::string_view kLocal = ".L";
        if (name.starts_with(kLocal)) {
            out_ += kLocal;
            out_ += module_.label + '_';
            out_ += name.substr(kLocal.size());
        } else if (!file_.defined.contains(name) || module_.exported(name)) {
            out_ += renamed(name);
        } else {
            if (!name.starts_with(module_.name)) out_ += module_.name + '_';
            out_ += name;
        }
    }

    const File &file_;
    const Module &module_;
    std::string out_;
};

}  // namespace

Processor processor_named(std::string_view name) { return {name == "aarch64" ? "//" : "#"}; }

bool is_halide_symbol(std::string_view symbol) {
    constexpr std::string_view kInternals = "6Halide7Runtime";
    if (symbol == "copy_to_device_already_locked" || symbol.starts_with("halide_")) return true;
    if (symbol.starts_with("_halide_")) return true;
    if (!symbol.starts_with("_Z")) return false;
    const size_t end = symbol.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 2);
    return end != std::string_view::npos && symbol.substr(end).starts_with(kInternals);
}

std::string renamed(std::string_view symbol) {
    return is_halide_symbol(symbol) ? std::string(kPrefix) + std::string(symbol) : std::string(symbol);
}

std::string rewrite(std::string_view assembly, const Processor &processor, const Module &module) {
    const File file(assembly, processor);
    return Writer(file, module).write();
}

std::string_view end_of_file() { return ".section .note.GNU-stack,\"\",@progbits\n"; }

}  // namespace shufflenet::compile
