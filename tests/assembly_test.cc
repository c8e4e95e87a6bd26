// The compiler's changes to assembly: what is kept, what it is called, and what is left as it is.
#include "generators/compile/assembly.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

namespace shufflenet::compile {
namespace {

const Module kModule{"pets", "k3", [](std::string_view symbol) { return symbol == "pets"; }};

std::string rewritten(const std::string &text, const char *processor = "x86_64") {
    return rewrite(text, processor_named(processor), kModule);
}

/// A function that does what `body` says, as LLVM writes it.
std::string function(const std::string &name, const std::string &body) {
    const std::string end = ".Lend_" + name;
    return "\t.section\t.text." + name + ",\"ax\",@progbits\n\t.globl\t" + name + " # -- Begin function\n\t.type\t" +
           name + ",@function\n" + name + ":\n" + body + "\tretq\n" + end + ":\n\t.size\t" + name + ", " + end + "-" +
           name + "\n";
}

TEST(Assembly, KeepsWhatIsReached) {
    const std::string text =
        rewritten("\t.text\n\t.file\t\"kernel.cpp\"\n" + function("pets", "\tcallq\tpets_task@PLT\n") +
                  function("pets_task", "\tvmovaps\t.LCPI0_0(%rip), %ymm0\n") + function("pets_argv", "\tjmp\tpets\n") +
                  "\t.section\t.rodata,\"a\",@progbits\n\t.p2align\t5\n.LCPI0_0:\n\t.long\t1\n"
                  "\t.p2align\t4\n.Lunused:\n\t.long\t2\n\t.ident\t\"compiler\"\n");
    EXPECT_EQ(
        text,
        ".section\t.text.pets,\"ax\",@progbits\n.globl pets\n.hidden pets\n.type pets,@function\npets:\n"
        "callq\tpets_task@PLT\nretq\n.Lk3_end_pets:\n.size\tpets, .Lk3_end_pets-pets\n"
        ".section\t.text.pets_task,\"ax\",@progbits\n.type pets_task,@function\npets_task:\n"
        "vmovaps\t.Lk3_CPI0_0(%rip), %ymm0\nretq\n.Lk3_end_pets_task:\n.size\tpets_task, .Lk3_end_pets_task-pets_task\n"
        ".section\t.rodata,\"a\",@progbits\n.p2align\t5\n.Lk3_CPI0_0:\n.long\t1\n");
}

TEST(Assembly, RenamesHalidesFunctions) {
    const std::string text =
        rewritten(function("pets", "\tcallq\thalide_malloc@PLT\n\tcallq\thelper@PLT\n\tcallq\tmemcpy@PLT\n") +
                  "\t.weak\thelper\n" + function("helper", "\tcallq\t_ZN6Halide7Runtime1xEv\n"));
    EXPECT_NE(text.find("callq\t" + renamed("halide_malloc") + "@PLT\n"), std::string::npos) << text;
    EXPECT_NE(text.find("callq\t" + renamed("_ZN6Halide7Runtime1xEv") + "\n"), std::string::npos) << text;
    EXPECT_NE(text.find("callq\tmemcpy@PLT\n"), std::string::npos) << text;
    // Another module of the same file may have a function of this name, too.
    EXPECT_NE(text.find("\npets_helper:\n"), std::string::npos) << text;
    EXPECT_EQ(text.find(".weak"), std::string::npos) << text;
}

TEST(Assembly, KnowsHalidesSymbols) {
    for (const char *symbol : {"halide_error", "_halide_buffer_crop", "_ZN6Halide7Runtime8Internal3fooE",
                               "_ZTVN6Halide7Runtime3fooE", "copy_to_device_already_locked"}) {
        EXPECT_TRUE(is_halide_symbol(symbol)) << symbol;
        EXPECT_TRUE(renamed(symbol).starts_with("shufflenet_v") && renamed(symbol).ends_with(symbol))
            << renamed(symbol);
    }
    for (const char *symbol : {"malloc", "pets_halide_error", "_ZN4pets6Halide7RuntimeE", "_Z"}) {
        EXPECT_FALSE(is_halide_symbol(symbol)) << symbol;
        EXPECT_EQ(renamed(symbol), symbol);
    }
}

TEST(Assembly, LeavesTextInQuotes) {
    const std::string text =
        rewritten(function("pets", "\tleaq\t.Lstr(%rip), %rax\n") +
                  "\t.section\t.rodata,\"a\",@progbits\n.Lstr:\n\t.asciz\t\"halide_malloc # \\\" .Lstr\" # .Lother\n");
    EXPECT_NE(text.find(".asciz\t\"halide_malloc # \\\" .Lstr\"\n"), std::string::npos) << text;
}

TEST(Assembly, ReadsEachProcessorsComments) {
    const std::string body = "\tadd\tx0, x0, #8 // halide_free\n\tadrp\tx1, :got:halide_free\n";
    const std::string text = rewritten(function("pets", body), "aarch64");
    EXPECT_NE(text.find("add\tx0, x0, #8\n"), std::string::npos) << text;
    EXPECT_NE(text.find(":got:" + renamed("halide_free") + "\n"), std::string::npos) << text;
}

TEST(Assembly, PrefetchesIntoTheSecondLevelCache) {
    EXPECT_NE(rewritten(function("pets", "\tprefetchnta\t8192(%rsi)\n")).find("prefetcht1\t8192(%rsi)\n"),
              std::string::npos);
}

TEST(Assembly, TwoNamesOfOneObject) {
    const std::string text = rewritten(function("pets", "\tleaq\tsecond(%rip), %rax\n") +
                                       "\t.data\nfirst:\n\t.p2align\t3\nsecond:\n\t.quad\t1\nthird:\n\t.quad\t2\n");
    EXPECT_NE(text.find(".data\npets_first:\n.p2align\t3\npets_second:\n.quad\t1\n"), std::string::npos) << text;
    EXPECT_EQ(text.find("third"), std::string::npos) << text;
}

TEST(Assembly, SectionsOfAGroup) {
    const std::string text = rewritten("\t.section\t.text.pets,\"axG\",@progbits,pets,comdat\npets:\n\tretq\n");
    EXPECT_TRUE(text.starts_with(".section\t.text.pets,\"ax\",@progbits\n")) << text;
}

TEST(Assembly, RefusesWhatItDoesNotKnow) {
    for (const char *line : {"\t.set\tpets2, pets\n", "pets2 = pets\n", "\t.lcomm\tbuffer,8\n", "pets:\n"}) {
        EXPECT_THROW(rewritten(function("pets", "") + line), std::runtime_error) << line;
    }
}

}  // namespace
}  // namespace shufflenet::compile
