// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// PEFT folders: what is written comes back, orders of fused experts, and what is refused.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <io/adapter_matrices.hpp>
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
    expect_fault(format_fault::shape, "expected 3 of rank 2",
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
  put(folder / "adapter_config.json",
      stiefelx::write_peft_config({.rank = 2, .dora = true, .target_modules = {"q"}}));
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

  // Either factor of the second expert may have values that do not fit.
  support::matrix_x<double> const wide_a = a.cast<double>(), wide_b = b.cast<double>();
  for (bool const is_a : {true, false}) {
    stiefelx::safetensors_writer tensors;
    tensors.add_columns_as_rows("e.0.lora_A.weight", a);
    tensors.add_columns_as_rows("e.0.lora_B.weight", b);
    is_a ? tensors.add_columns_as_rows("e.1.lora_A.weight", wide_a)
         : tensors.add_columns_as_rows("e.1.lora_A.weight", a);
    is_a ? tensors.add_columns_as_rows("e.1.lora_B.weight", b)
         : tensors.add_columns_as_rows("e.1.lora_B.weight", wide_b);
    tensors.write(folder / "adapter_model.safetensors");
    peft_folder const mixed(folder / "");
    expect_fault(format_fault::inexact, is_a ? "e.1.lora_A" : "e.1.lora_B",
                 [&] { mixed.read_experts("e.", 2, bank_down, bank_up); });
    BOOST_TEST((bank_down.isZero(0) && bank_up.isZero(0)));
  }
}

BOOST_AUTO_TEST_CASE(a_rank_that_a_given_pattern_denies_is_read_again) {
  temporary_folder const folder;
  matrix const a = drawn(5, 3, 1), b = drawn(3, 4, 2);
  for (char const* given : {"q", "^layers.0.q"}) {
    peft_writer writer({.rank = 2, .rank_pattern = {{given, 4}}});
    writer.add("layers.0.q", a, b);
    writer.write(folder / "");
    BOOST_TEST_CONTEXT(given) {
      peft_folder const found(folder / "");
      BOOST_TEST(found.at("layers.0.q").rank == 3);
      BOOST_TEST(found.config().rank_of("layers.1.q") == (given[0] == 'q' ? 4 : 2));
    }
  }
}

BOOST_AUTO_TEST_CASE(two_fused_parameters_of_a_module_stand_under_nested_names) {
  temporary_folder const folder;
  matrix const a = drawn(5, 6, 1), b = drawn(6, 4, 2), c = drawn(4, 6, 3), d = drawn(6, 5, 4);
  // A pattern for the module holds for the inner name as well.
  peft_writer writer({.rank = 8, .alpha = 6, .rank_pattern = {{"experts", 2}}});
  writer.add_flat_experts("mlp.experts.up", 3, flat_layout::rank_major, a, b, 1);
  writer.add_flat_experts("mlp.experts.down", 3, flat_layout::expert_major, c, d);
  writer.write(folder / "");
  peft_folder const found(folder / "");
  BOOST_TEST(found.file().find("base_model.model.mlp.experts.base_layer.lora_A.weight") != nullptr);
  BOOST_TEST(found.config().target_parameters.size() == 2U);
  BOOST_TEST(found.config().scaling("mlp.experts.base_layer") == 3);
  matrix down = zero(5, 6), up = zero(6, 4), down_2 = zero(4, 6), up_2 = zero(6, 5);
  found.read_flat_experts("mlp.experts.base_layer", 3, flat_layout::rank_major, down, up);
  found.read_flat_experts("mlp.experts", 3, flat_layout::expert_major, down_2, up_2);
  BOOST_TEST((down == a && up == b && down_2 == c && up_2 == d));
  // Each has its own layout.
  expect_fault(format_fault::member, "the file's 'rank_major'", [&] {
    found.read_flat_experts("mlp.experts.base_layer", 3, flat_layout::expert_major, down, up);
  });

  auto const fused = [&](peft_config config, index_t wrapped = 0) {
    peft_writer(config).add_flat_experts("e.up", 3, flat_layout::rank_major, a, b, wrapped);
  };
  expect_fault(format_fault::member, "dropout", [&] { fused({.rank = 2, .dropout = 0.5}); });
  expect_fault(format_fault::member, "DoRA", [&] { fused({.rank = 2, .dora = true}); });
  expect_fault(format_fault::name, "wrapped -1", [&] { fused({.rank = 2}, -1); });
  expect_fault(format_fault::member, "DoRA", [&] { writer.add_magnitude("q", a); });
  expect_fault(format_fault::missing_tensor, "'e.base_layer' alone", [&] {
    peft_writer inner({.rank = 2});
    inner.add_flat_experts("e.up", 3, flat_layout::rank_major, a, b, 1);
    inner.write(folder / "");
  });
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_written_keeps_both_files) {
  temporary_folder const folder;
  matrix const a = drawn(5, 2, 1), b = drawn(2, 4, 2);
  peft_writer writer({.rank = 2});
  writer.add("q", a, b);
  put(folder / "adapter_model.safetensors", "old");
  std::filesystem::create_directory(folder / "adapter_config.json");
  expect_fault(format_fault::cannot_write, "adapter_config.json",
               [&] { writer.write(folder / ""); });
  BOOST_TEST(content(folder / "adapter_model.safetensors") == "old");
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
