// The guidelines' report: what it concludes from figures, and that it says so.
#include "bench/guidelines/report.h"

#include <gtest/gtest.h>

namespace shufflenet::bench {
namespace {

Json figures(double gflops) {
    return {{"min_us", 1e3 / gflops}, {"median_us", 1e3 / gflops},
            {"gflops", gflops},       {"peak_fraction", gflops / 100},
            {"bytes", 1000},          {"kernels", 10}};
}

/// A set of a table whose rows run at such rates: {row, unfused GFLOP/s, fused GFLOP/s or 0, paper's ARM figure}.
struct Row {
    const char *name;
    double unfused, fused, arm;
};

Json set_of(const char *table, int width, const std::vector<Row> &rows) {
    Json set = {{"set", "s"},     {"table", table},       {"isa", "avx2"},
                {"width", width}, {"peak_gflops", 100.0}, {"rows", Json::array()}};
    for (const Row &row : rows) {
        Json json = {{"row", row.name}, {"channels", "1-1"},   {"flops", 1000000},
                     {"mac", 2000},     {"mac_bound", 1000.0}, {"unfused", figures(row.unfused)}};
        if (row.fused > 0) json["fused"] = figures(row.fused);
        if (row.arm > 0) json["paper"] = {{"gpu", 2 * row.arm}, {"arm", row.arm}};
        set["rows"].push_back(json);
    }
    return set;
}

Json result_of(const std::vector<Json> &sets) {
    return {{"machine", "m"}, {"date", "2026-01-01"},           {"threads", 1},
            {"tables", sets}, {"decomposition", Json::array()}, {"networks", Json::array()}};
}

struct VerdictCase {
    const char *name;
    std::vector<Json> sets;
    std::vector<std::string> holds_at;  ///< Of the first verdict.
    const char *text;                   ///< Some of its words.
};

std::vector<VerdictCase> verdict_cases() {
    return {
        {"holds", {set_of("g1", 0, {{"1:1", 90, 0, 76}, {"1:2", 60, 0, 38}})}, {"x1"}, "holds here: "},
        {"the_other_is_faster", {set_of("g1", 0, {{"1:1", 60, 0, 76}, {"1:2", 90, 0, 38}})}, {}, "does not hold here"},
        {"as_fast_is_not_slower",
         {set_of("g1", 0, {{"1:1", 90, 0, 76}, {"1:2", 88, 0, 38}})},
         {},
         "does not hold here"},
        {"one_is_slower_but_one_is_faster",
         {set_of("g1", 0, {{"1:1", 80, 0, 76}, {"1:2", 90, 0, 38}, {"1:6", 40, 0, 20}})},
         {},
         "1:6 2.00"},
        {"at_one_width",
         {set_of("g2", 0, {{"g=1", 90, 0, 76}, {"g=8", 60, 0, 38}}),
          set_of("g2", 2, {{"g=1", 90, 0, 76}, {"g=8", 90, 0, 38}})},
         {"x1"},
         "holds here at x1 only"},
        {"the_paper_beside",
         {set_of("g1", 0, {{"1:1", 90, 0, 76}, {"1:2", 60, 0, 38}})},
         {"x1"},
         "2.00 (ARM), 2.00 (GPU)"},
        {"cells_one_by_one",
         {set_of("cells", 0, {{"A", 50, 0, 0}, {"plain", 100, 0, 0}, {"B", 100, 0, 0}, {"plain", 90, 0, 0}})},
         {"A"},
         "A 2.00, B 0.90"},
        {"units_by_time",
         {set_of("units56", 0, {{"ShuffleNetV2", 50, 0, 4}, {"MobileNetV2", 25, 0, 2}})},
         {"c=64"},
         "MobileNetV2 2.00"},
    };
}

class Verdict : public ::testing::TestWithParam<VerdictCase> {};

TEST_P(Verdict, IsComputed) {
    const Json verdicts = verdicts_of(result_of(GetParam().sets));
    ASSERT_FALSE(verdicts.empty());
    EXPECT_EQ(verdicts[0].at("holds_at").get<std::vector<std::string>>(), GetParam().holds_at);
    EXPECT_NE(verdicts[0].at("text").get<std::string>().find(GetParam().text), std::string::npos)
        << verdicts[0].at("text");
}

INSTANTIATE_TEST_SUITE_P(All, Verdict, ::testing::ValuesIn(verdict_cases()),
                         [](const auto &info) { return info.param.name; });

TEST(Report, WhatFusingRemoves) {
    const Json verdicts = verdicts_of(result_of({set_of("g4", 0,
                                                        {{"ReLU, shortcut", 50, 80, 56},
                                                         {"no ReLU, shortcut", 100, 100, 60},
                                                         {"no ReLU, no shortcut", 100, 100, 66}})}));
    ASSERT_EQ(verdicts.size(), 2U);
    EXPECT_EQ(verdicts[0].at("version"), "unfused");
    const Json &rows = verdicts[1].at("removed_by_fusing");
    ASSERT_EQ(rows.size(), 2U);
    EXPECT_DOUBLE_EQ(rows[0].at("unfused").get<double>(), 1.0);
    EXPECT_DOUBLE_EQ(rows[0].at("fused").get<double>(), 0.25);
    EXPECT_DOUBLE_EQ(rows[0].at("removed").get<double>(), 0.75);
    EXPECT_TRUE(rows[1].at("removed").is_null()) << "nothing is lost there";
}

TEST(Report, RowsAndParts) {
    Json result = result_of({set_of("g1", 1, {{"1:1", 80, 0, 76}, {"1:2", 40, 0, 38}})});
    Json us;
    for (const std::string_view part : kTimeParts) us[std::string(part)] = 10.0;
    result["decomposition"].push_back({{"network", "shufflenet_v2_x1_0"},
                                       {"isa", "avx2"},
                                       {"unfused", {{"kernels", 7}, {"us", us}, {"total_us", 50.0}}},
                                       {"fused", {{"kernels", 3}, {"total_us", 25.0}}}});
    const auto network = [](const char *name, double us, double arm) {
        return Json{{"network", name},
                    {"flops", 145000000},
                    {"min_us", us},
                    {"median_us", us},
                    {"paper", {{"mflops", 145}, {"error", 30.6}, {"gpu", 10 * arm}, {"arm", arm}}}};
    };
    result["networks"].push_back(
        {{"set", "networks/140 MFLOPs"},
         {"isa", "avx2"},
         {"networks", {network("mobilenet_v1_x0_5", 5800, 12), network("shufflenet_v2_x1_0", 2900, 24)}}});
    const std::string text = markdown_of(result);
    for (const char *line :
         {"| x2 | 1:2 | 1-1 | 1.0 | 2,000 | 2.00 | 0.025 / 0.025 | 0.0 (0) | 40 % | 0.50 | 0.50 | 0.50 |",
          "- shufflenet_v2_x1_0: holds here unfused, 60 % of the time; fused, the whole is 2.00 times as fast.",
          "| shufflenet_v2_x1_0 | avx2 | 7 | 50 | 10 (20 %) | 10 (20 %) | 10 (20 %) | 10 (20 %) | 10 (20 %) | 3 | 25 |",
          "- 140 MFLOPs: holds here, shufflenet_v2_x1_0 does 2.00 times as many FLOPs a second as mobilenet_v1_x0_5",
          "none is faster than shufflenet_v2_x1_0.",
          "| mobilenet_v1_x0_5 | 145.0 | 5.80 / 5.80 | 172 | 50.0 | 0.50 | 0.50 | 0.50 | 30.6 |"}) {
        EXPECT_NE(text.find(line), std::string::npos) << line << "\nin\n" << text;
    }
}

TEST(Report, AUnitThatIsNotFusedIsNotComparedWithFusedOnes) {
    const Json verdicts = verdicts_of(result_of({set_of(
        "units56", 0, {{"ShuffleNetV2", 50, 100, 4}, {"ShuffleNetV1, g=3", 25, 0, 2}, {"MobileNetV2", 40, 80, 3}})}));
    ASSERT_EQ(verdicts.size(), 2U);
    EXPECT_EQ(verdicts[0].at("slowest"), Json({"ShuffleNetV1, g=3"}));
    EXPECT_EQ(verdicts[1].at("slowest"), Json({"MobileNetV2"}));
}

TEST(Report, TheRowToCompareWithIsMissing) {
    EXPECT_THROW(verdicts_of(result_of({set_of("g1", 0, {{"1:2", 80, 0, 76}})})), std::runtime_error);
}

}  // namespace
}  // namespace shufflenet::bench
