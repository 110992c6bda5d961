// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// PEFT folders: what is written comes back, orders of fused experts, and what is refused.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <io/files.hpp>
#include <io/peft_samples.hpp>
#include <stiefelx/io/peft_folder.hpp>
#include <stiefelx/io/peft_writer.hpp>
#include <support/data.hpp>

namespace {

using namespace io_test;
using stiefelx::flat_layout;
using stiefelx::format_fault;
using stiefelx::index_t;
using stiefelx::peft_config;
using stiefelx::peft_folder;
using stiefelx::peft_writer;
using matrix = support::matrix_x<float>;

matrix drawn(index_t rows, index_t cols, std::uint64_t seed) {
  return support::random_matrix<float>(rows, cols, seed);
}

matrix zero(index_t rows, index_t cols) { return matrix::Zero(rows, cols); }

peft_config of_json(std::string const& members, stiefelx::peft_options options = {}) {
  return stiefelx::read_peft_config(
      R"({"peft_type":"LORA","r":4,"lora_alpha":8,"target_modules":["q"])" + members + "}",
      "c.json", options);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(peft)

BOOST_AUTO_TEST_CASE(what_is_written_comes_back) {
  temporary_folder const folder;
  matrix const a = drawn(5, 2, 1), b = drawn(2, 4, 2), c = drawn(4, 3, 3), d = drawn(3, 6, 4);
  peft_writer writer({.rank = 2,
                      .alpha = 6,
                      .dropout = 0.125,
                      .rank_stabilized = true,
                      .base_model = "base",
                      .alpha_pattern = {{"up", 5}}});
  writer.add("layers.0.q", a, b);
  writer.add("layers.0.up", c, d);
  writer.write(folder / "");

  peft_folder const found(folder / "");
  BOOST_TEST(found.config().alpha == 6);
  BOOST_TEST(found.config().dropout == 0.125);
  BOOST_TEST(found.config().base_model == "base");
  BOOST_TEST(found.config().target_modules.size() == 2U);
  BOOST_TEST(found.config().unknown.empty());
  BOOST_TEST(found.config().scaling("layers.0.q") == 6 / std::sqrt(2.0));
  BOOST_TEST(found.config().scaling("layers.0.up") == 5 / std::sqrt(3.0));
  BOOST_TEST(found.others().empty());
  BOOST_REQUIRE(found.modules().size() == 2U);
  auto const& m = found.at("layers.0.up");
  BOOST_TEST((m.d_in == 4 && m.d_out == 6 && m.rank == 3 && !m.magnitude));

  matrix down = zero(5, 2), up = zero(2, 4);
  found.read("layers.0.q", down, up);
  BOOST_TEST((down == a && up == b));
  // A bank's columns and rows are as good.
  matrix bank_down = zero(4, 9), bank_up = zero(9, 6);
  found.read("layers.0.up", bank_down.middleCols(3, 3), bank_up.middleRows(3, 3));
  BOOST_TEST((bank_down.middleCols(3, 3) == c && bank_up.middleRows(3, 3) == d));
  BOOST_TEST(bank_down.leftCols(3).isZero(0));
  BOOST_TEST(bank_up.bottomRows(3).isZero(0));
}

// The file's own order: lora_A is [r, d_in] and lora_B [d_out, r], row by row.
BOOST_AUTO_TEST_CASE(factors_stand_in_the_file_as_peft_has_them) {
  temporary_folder const folder;
  matrix const a = drawn(5, 2, 1), b = drawn(2, 4, 2);
  peft_writer writer({.rank = 2});
  writer.add("q", a, b);
  writer.write(folder / "");
  stiefelx::safetensors_file const file(folder / "adapter_model.safetensors");
  auto const first = file.entries<float>("base_model.model.q.lora_A.weight");
  auto const second = file.entries<float>("base_model.model.q.lora_B.weight");
  BOOST_TEST(file.at("base_model.model.q.lora_A.weight").shape.text() == "[2, 5]");
  BOOST_TEST(file.at("base_model.model.q.lora_B.weight").shape.text() == "[4, 2]");
  for (index_t q = 0; q < 2; ++q) {
    for (index_t i = 0; i < 5; ++i)
      BOOST_TEST(first[static_cast<std::size_t>(q * 5 + i)] == a(i, q));
    for (index_t o = 0; o < 4; ++o)
      BOOST_TEST(second[static_cast<std::size_t>(o * 2 + q)] == b(q, o));
  }
}

BOOST_AUTO_TEST_CASE(experts_are_modules_of_their_own_or_fused_in_either_order) {
  temporary_folder const folder;
  constexpr index_t count = 3, rank = 2;
  matrix const a = drawn(5, count * rank, 1), b = drawn(count * rank, 4, 2);
  matrix down = zero(5, 6), up = zero(6, 4);
  {
    peft_writer writer({.rank = rank});
    writer.add_experts("mlp.experts.", count, a, b);
    writer.write(folder / "");
    peft_folder const found(folder / "");
    BOOST_TEST(found.modules().size() == 3U);
    found.read_experts("mlp.experts.", count, down, up);
    BOOST_TEST((down == a && up == b));
    matrix one_down = zero(5, rank), one_up = zero(rank, 4);
    found.read("mlp.experts.1", one_down, one_up);
    BOOST_TEST((one_down == a.middleCols(2, 2) && one_up == b.middleRows(2, 2)));
  }
  for (flat_layout layout : {flat_layout::rank_major, flat_layout::expert_major}) {
    peft_writer writer({.rank = rank});
    writer.add_flat_experts("mlp.experts.up", count, layout, a, b);
    writer.write(folder / "");
    peft_folder const found(folder / "");
    down.setZero();
    up.setZero();
    found.read_flat_experts("mlp.experts", count, layout, down, up);
    BOOST_TEST((down == a && up == b));
    // PEFT reads B as (d_out, r, E).
    auto const entries = found.file().entries<float>("base_model.model.mlp.experts.lora_B.weight");
    for (index_t o = 0; o < 4; ++o)
      for (index_t e = 0; e < count; ++e)
        for (index_t q = 0; q < rank; ++q) {
          index_t const column = layout == flat_layout::rank_major ? q * count + e : e * rank + q;
          BOOST_TEST(entries[static_cast<std::size_t>(o * count * rank + column)] ==
                     b(e * rank + q, o));
        }
    expect_fault(format_fault::shape, "transposed parameter", [&] {
      matrix swapped_down = zero(4, 6), swapped_up = zero(6, 5);
      found.read_flat_experts("mlp.experts", count, layout, swapped_down, swapped_up);
    });
    expect_fault(format_fault::shape, "a multiple of 4 experts",
                 [&] { found.read_flat_experts("mlp.experts", 4, layout, down, up); });
  }
}

BOOST_AUTO_TEST_CASE(magnitudes_come_back_and_have_to_fit_the_configuration) {
  temporary_folder const folder;
  matrix const a = drawn(5, 2, 1), b = drawn(2, 4, 2), m = drawn(1, 4, 3);
  peft_writer writer({.rank = 2});
  writer.add("q", a, b);
  writer.add_magnitude("q", m);
  writer.write(folder / "");
  peft_folder const found(folder / "");
  BOOST_TEST(found.config().dora);
  matrix read = zero(1, 4);
  found.read_magnitude("q", read);
  BOOST_TEST((read == m));
  matrix wrong = zero(1, 3);
  expect_fault(format_fault::shape, "lora_magnitude_vector",
               [&] { found.read_magnitude("q", wrong); });

  peft_writer plain({.rank = 2});
  plain.add("q", a, b);
  plain.write(folder / "");
  expect_fault(format_fault::missing_tensor, "magnitudes",
               [&] { peft_folder(folder / "").read_magnitude("q", read); });
  peft_writer lost({.rank = 2, .dora = true});
  lost.add("q", a, b);
  lost.write(folder / "");
  expect_fault(format_fault::shape, "without magnitudes", [&] { peft_folder(folder / ""); });
}

BOOST_AUTO_TEST_CASE(files_that_contradict_each_other_are_refused) {
  temporary_folder const folder;
  matrix const a = drawn(5, 2, 1), b = drawn(2, 4, 2);
  auto const config = folder / "adapter_config.json";
  peft_writer writer({.rank = 2});
  writer.add("q", a, b);
  writer.write(folder / "");
  put(config, stiefelx::write_peft_config({.rank = 4}));
  expect_fault(format_fault::shape, "of rank 2", [&] { peft_folder(folder / ""); });
  put(config, "");
  expect_fault(format_fault::syntax, "adapter_config.json", [&] { peft_folder(folder / ""); });
  put(config, std::string(1'000'001, ' '));
  expect_fault(format_fault::header_length, "adapter_config.json",
               [&] { peft_folder(folder / ""); });

  auto const with = [&](auto const& add) {
    stiefelx::safetensors_writer tensors;
    add(tensors);
    tensors.write(folder / "adapter_model.safetensors");
    put(config, stiefelx::write_peft_config({.rank = 2}));
    peft_folder(folder / "");
  };
  expect_fault(format_fault::shape, "without lora_B", [&] {
    with([&](auto& t) { t.add_columns_as_rows("base_model.model.q.lora_A.weight", a); });
  });
  expect_fault(format_fault::shape, "[2, 5] and [2, 4]", [&] {
    with([&](auto& t) {
      t.add_columns_as_rows("base_model.model.q.lora_A.weight", a);
      t.add_same_indices("base_model.model.q.lora_B.weight", b);
    });
  });
  expect_fault(format_fault::shape, "two names", [&] {
    with([&](auto& t) {
      t.add_columns_as_rows("base_model.model.q.lora_A.weight", a);
      t.add_columns_as_rows("q.lora_B.weight", b);
    });
  });
}

// The fuzzer's seeds: the configuration up to a zero byte, the tensors behind it.
BOOST_AUTO_TEST_CASE(content_in_memory_is_read_and_every_defect_has_its_reason) {
  auto const open = [](sample const& s) {
    std::size_t const zero = s.bytes.find('\0');
    return peft_folder(std::string_view(s.bytes).substr(0, zero),
                       bytes_of(std::string_view(s.bytes).substr(zero + 1)));
  };
  auto const sound = sound_peft();
  for (sample const& s : sound) BOOST_TEST_CONTEXT(s.name) BOOST_CHECK_NO_THROW(open(s));
  for (sample const& s : hostile_peft())
    BOOST_TEST_CONTEXT(s.name) expect_fault(s.fault, "", [&] { open(s); });
  peft_folder const router = open(named(sound, "router"));
  BOOST_TEST(router.others() == std::vector<std::string>{"gate"}, boost::test_tools::per_element());
  support::matrix_x<double> down = support::matrix_x<double>::Zero(3, 2),
                            up = support::matrix_x<double>::Zero(2, 2);
  router.read("q", down, up);
  BOOST_TEST((down(0, 0) == 1 && down(2, 0) == 3 && down(0, 1) == 4 && up(1, 0) == 8));
}

BOOST_AUTO_TEST_CASE(pickled_folders_are_refused_with_the_name_of_the_converter) {
  temporary_folder const folder;
  put(folder / "adapter_config.json", stiefelx::write_peft_config({.rank = 2}));
  expect_fault(format_fault::cannot_open, "adapter_model.safetensors",
               [&] { peft_folder(folder / ""); });
  put(folder / "adapter_model.bin", "PK");
  expect_fault(format_fault::cannot_open, "adapter_model.bin: a pickled file",
               [&] { peft_folder(folder / ""); });
  expect_fault(format_fault::cannot_open, "examples/convert_moe_peft.py",
               [&] { peft_folder(folder / ""); });
  for (char const* type : {"MIXLORA", "LORAMOE", "MOLA"})
    expect_fault(format_fault::member, "examples/convert_moe_peft.py", [&] {
      stiefelx::read_peft_config(R"({"peft_type":")" + std::string(type) + R"(","r":4})");
    });
  // A folder that has both is read.
  matrix const a = drawn(5, 2, 1), b = drawn(2, 4, 2);
  peft_writer writer({.rank = 2});
  writer.add("q", a, b);
  writer.write(folder / "");
  BOOST_CHECK_NO_THROW(peft_folder(folder / ""));
}

BOOST_AUTO_TEST_CASE(a_layout_that_the_file_says_is_the_only_one_that_is_read) {
  temporary_folder const folder;
  // As many experts as ranks: nothing but the entry tells the layouts apart.
  matrix const a = drawn(5, 4, 1), b = drawn(4, 4, 2);
  peft_writer writer({.rank = 2});
  writer.add_flat_experts("experts.up", 2, flat_layout::expert_major, a, b);
  writer.write(folder / "");
  peft_folder const found(folder / "");
  matrix down = zero(5, 4), up = zero(4, 4);
  expect_fault(format_fault::member, "'experts' asked for as rank_major",
               [&] { found.read_flat_experts("experts", 2, flat_layout::rank_major, down, up); });
  BOOST_TEST((down.isZero(0) && up.isZero(0)));
  found.read_flat_experts("experts", 2, flat_layout::expert_major, down, up);
  BOOST_TEST((down == a && up == b));
}

BOOST_AUTO_TEST_CASE(a_refused_call_leaves_memory_as_it_is) {
  temporary_folder const folder;
  matrix const a = drawn(5, 2, 1), b = drawn(2, 4, 2);
  peft_writer writer({.rank = 2});
  writer.add("q", a, b);
  writer.add("e.0", a, b);
  writer.write(folder / "");
  peft_folder const found(folder / "");
  matrix down = zero(5, 2), up = zero(3, 4), bank_down = zero(5, 4), bank_up = zero(4, 4);
  expect_fault(format_fault::shape, "lora_B", [&] { found.read("q", down, up); });
  expect_fault(format_fault::missing_tensor, "'v'", [&] { found.read("v", down, up); });
  // The second expert is missing, so the first is not read either.
  expect_fault(format_fault::missing_tensor, "'e.1'",
               [&] { found.read_experts("e.", 2, bank_down, bank_up); });
  BOOST_TEST((down.isZero(0) && up.isZero(0) && bank_down.isZero(0) && bank_up.isZero(0)));
}

BOOST_AUTO_TEST_CASE(patterns_name_ends_of_names) {
  peft_config const c =
      of_json(R"(,"rank_pattern":{"up":2,"^a.down":3},"alpha_pattern":{"x.q":2.5})");
  BOOST_TEST(c.rank_of("layers.0.up") == 2);
  BOOST_TEST(c.rank_of("up") == 2);
  BOOST_TEST(c.rank_of("layers.0.setup") == 4);
  BOOST_TEST(c.rank_of("a.down") == 3);
  BOOST_TEST(c.rank_of("b.a.down") == 4);
  BOOST_TEST(c.alpha_of("x.q") == 2.5);
  BOOST_TEST(c.alpha_of("q") == 8);
}

BOOST_AUTO_TEST_CASE(an_expression_for_modules_stays_one) {
  auto const of = [](char const* modules) {
    return stiefelx::read_peft_config(R"({"peft_type":"LORA","r":4,"target_modules":)" +
                                      std::string(modules) + "}");
  };
  for (auto const& [modules, is_expression] :
       {std::pair{R"(".*\\.(q|k)_proj")", true}, std::pair{R"(["q_proj"])", false}}) {
    peft_config const c = of(modules);
    BOOST_TEST(c.target_is_expression == is_expression);
    BOOST_TEST((stiefelx::write_peft_config(c).find(std::string("\"target_modules\":") + modules) !=
                std::string::npos));
  }
}

BOOST_AUTO_TEST_CASE(unknown_names_are_listed_and_options_that_change_the_meaning_are_refused) {
  BOOST_TEST(of_json(R"(,"newest_option":1)").unknown == std::vector<std::string>{"newest_option"},
             boost::test_tools::per_element());
  struct refused {
    char const* members;
    char const* named;
  };
  for (auto const& [members, named] :
       {refused{R"(,"bias":"all")", "bias 'all'"}, refused{R"(,"lora_bias":true)", "lora_bias"},
        refused{R"(,"layer_replication":[[0,4]])", "layer_replication"},
        refused{R"(,"modules_to_save":["head"])", "modules_to_save"},
        refused{R"(,"use_qalora":true)", "use_qalora"},
        refused{R"(,"init_lora_weights":"pissa")", "changed the base weights"},
        refused{R"(,"rank_pattern":{"q|k":2})", "not an expression"},
        refused{R"(,"rank_pattern":{"q":0})", "rank_pattern 0"},
        refused{R"(,"lora_dropout":1.5)", "lora_dropout"},
        refused{R"(,"use_dora":1)", "true or false"}})
    expect_fault(format_fault::member, named, [&, m = members] { of_json(m); });
  BOOST_TEST(
      of_json(R"(,"init_lora_weights":"pissa")", {.accept_changed_base = true}).initialization ==
      "pissa");
  BOOST_TEST(of_json(R"(,"init_lora_weights":"gaussian")").initialization == "gaussian");
  expect_fault(format_fault::member, "peft_type 'LOHA'",
               [] { stiefelx::read_peft_config(R"({"peft_type":"LOHA","r":4})"); });
  expect_fault(format_fault::member, "no r",
               [] { stiefelx::read_peft_config(R"({"peft_type":"LORA"})"); });
  expect_fault(format_fault::member, "r 0",
               [] { stiefelx::read_peft_config(R"({"peft_type":"LORA","r":0})"); });
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_not_written) {
  matrix const a = drawn(5, 2, 1), b = drawn(2, 4, 2), wide = drawn(3, 4, 3);
  peft_writer writer({.rank = 2});
  BOOST_CHECK_THROW(writer.add("q", a, wide), stiefelx::shape_error);
  BOOST_CHECK_THROW(writer.add_experts("q.", 3, a, b), stiefelx::shape_error);
  BOOST_CHECK_THROW(writer.add_flat_experts("q.w", 2, flat_layout::rank_major, a, b),
                    stiefelx::shape_error);
  expect_fault(format_fault::name, "'q'",
               [&] { writer.add_flat_experts("q", 1, flat_layout::rank_major, a, b); });
  writer.add("q", a, b);
  expect_fault(format_fault::duplicate_name, "lora_A", [&] { writer.add("q", a, b); });
  expect_fault(format_fault::cannot_write, "/nowhere", [&] { writer.write("/nowhere"); });
}

BOOST_AUTO_TEST_SUITE_END()
