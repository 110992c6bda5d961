// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// PEFT folders: wrong numbers of experts, tensors of adapters that are not read, and folders that the
// writer does not write because the reader or PEFT would refuse them.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <io/adapter_matrices.hpp>
#include <io/files.hpp>
#include <stiefelx/io/checkpoint.hpp>
#include <stiefelx/io/peft_folder.hpp>
#include <stiefelx/io/peft_writer.hpp>

namespace {

using namespace io_test;
using stiefelx::flat_layout;
using stiefelx::format_fault;
using stiefelx::index_t;
using stiefelx::matrix_ref;
using stiefelx::peft_config;
using stiefelx::peft_folder;
using stiefelx::peft_writer;

// What is referred to until write() may be a view, but no matrix that is gone after the call.
template <class Down, class Up>
concept Adds = requires(peft_writer w, Down&& down, Up&& up) {
  w.add("q", static_cast<Down&&>(down), static_cast<Up&&>(up));
};
template <class Down, class Up>
concept AddsExperts = requires(peft_writer w, Down&& down, Up&& up) {
  w.add_experts("q.", 2, static_cast<Down&&>(down), static_cast<Up&&>(up));
};
template <class Down, class Up>
concept AddsFlat = requires(peft_writer w, Down&& down, Up&& up) {
  w.add_flat_experts("q.w", 2, flat_layout::rank_major, static_cast<Down&&>(down),
                     static_cast<Up&&>(up));
};
template <class M>
concept AddsToCheckpoint =
    requires(stiefelx::checkpoint_writer w, M&& m) { w.add("m", static_cast<M&&>(m)); };

using view = matrix_ref<float>;
static_assert(Adds<matrix&, matrix const&> && Adds<view, view> && Adds<Eigen::Map<matrix>, view>);
static_assert(!Adds<matrix, matrix&> && !Adds<matrix&, matrix> && !Adds<matrix&, matrix const>);
static_assert(AddsExperts<matrix&, matrix const&> && AddsExperts<view, view>);
static_assert(!AddsExperts<matrix, matrix&> && !AddsExperts<matrix&, matrix>);
// The second factor is copied.
static_assert(AddsFlat<matrix&, matrix> && !AddsFlat<matrix, matrix&>);
static_assert(AddsToCheckpoint<matrix&> && AddsToCheckpoint<view>);
static_assert(!AddsToCheckpoint<matrix> && !AddsToCheckpoint<matrix const>);

}  // namespace

BOOST_AUTO_TEST_SUITE(peft_refusals)

BOOST_AUTO_TEST_CASE(the_configuration_fixes_the_number_of_fused_experts) {
  temporary_folder const folder;
  matrix const a = drawn(5, 8, 1), b = drawn(8, 3, 2);
  for (flat_layout const layout : {flat_layout::rank_major, flat_layout::expert_major}) {
    peft_writer writer({.rank = 2});
    writer.add_flat_experts("m.experts.w", 4, layout, a, b);
    writer.write(folder / "");
    peft_folder const found(folder / "");
    matrix down = zero(5, 8), up = zero(8, 3);
    for (index_t const count : {-4, -1, 0, 1, 2, 3, 8, 16})
      expect_fault(format_fault::shape, "'m.experts' asked for as " + std::to_string(count),
                   [&] { found.read_flat_experts("m.experts", count, layout, down, up); });
    // The order of the rows is not asked for here.
    expect_fault(format_fault::shape, "read_flat_experts()",
                 [&] { found.read("m.experts", down, up); });
    BOOST_TEST((down.isZero(0) && up.isZero(0)));
    found.read_flat_experts("m.experts", 4, layout, down, up);
    BOOST_TEST((down == a && up == b));
  }
}

BOOST_AUTO_TEST_CASE(one_fused_expert_has_one_order) {
  temporary_folder const folder;
  matrix const a = drawn(5, 2, 1), b = drawn(2, 3, 2);
  peft_writer writer({.rank = 2});
  writer.add_flat_experts("experts.w", 1, flat_layout::rank_major, a, b);
  writer.write(folder / "");
  peft_folder const found(folder / "");
  matrix down = zero(5, 2), up = zero(2, 3);
  found.read("experts", down, up);
  BOOST_TEST((down == a && up == b));
  expect_fault(format_fault::shape, "1 of rank 2",
               [&] { found.read_flat_experts("experts", 2, flat_layout::rank_major, down, up); });
}

BOOST_AUTO_TEST_CASE(a_bank_is_read_from_plain_experts_and_at_least_one) {
  temporary_folder const folder;
  matrix const a = drawn(5, 2, 1), b = drawn(2, 3, 2), c = drawn(5, 4, 3), d = drawn(4, 3, 4),
               m = drawn(1, 3, 5);
  matrix down = zero(5, 4), up = zero(4, 3);
  {
    peft_writer writer({.rank = 2});
    writer.add_experts("e.", 2, c, d);
    writer.write(folder / "");
    peft_folder const found(folder / "");
    for (index_t const count : {0, -1})
      expect_fault(format_fault::shape, "'e.' with " + std::to_string(count) + " experts",
                   [&] { found.read_experts("e.", count, down, up); });
  }
  {
    peft_writer writer({.rank = 2});
    for (char const* name : {"e.0", "e.1"}) {
      writer.add(name, a, b);
      writer.add_magnitude(name, m);
    }
    writer.write(folder / "");
    peft_folder const found(folder / "");
    expect_fault(format_fault::shape, "'e.0' with magnitudes",
                 [&] { found.read_experts("e.", 2, down, up); });
    matrix one_down = zero(5, 2), one_up = zero(2, 3);
    found.read("e.1", one_down, one_up);
    BOOST_TEST((one_down == a && one_up == b));
  }
  {
    // The second one is fused and has as many rows: nothing is read of the first either.
    matrix bank_down = zero(5, 8), bank_up = zero(8, 3);
    peft_writer writer({.rank = 2});
    writer.add("e.0", c, d);
    writer.add_flat_experts("e.1.w", 2, flat_layout::rank_major, c, d);
    writer.write(folder / "");
    expect_fault(format_fault::shape, "'e.1' with 2 fused experts",
                 [&] { peft_folder(folder / "").read_experts("e.", 2, bank_down, bank_up); });
    BOOST_TEST((bank_down.isZero(0) && bank_up.isZero(0)));
  }
  BOOST_TEST((down.isZero(0) && up.isZero(0)));
}

BOOST_AUTO_TEST_CASE(no_tensor_of_an_adapter_is_passed_over) {
  matrix const a = drawn(5, 2, 1), b = drawn(2, 3, 2);
  auto const open = [&](std::string const& more) {
    stiefelx::safetensors_writer tensors;
    tensors.add_columns_as_rows("base_model.model.q.lora_A.weight", a);
    tensors.add_columns_as_rows("base_model.model.q.lora_B.weight", b);
    tensors.add_columns_as_rows(more, a);
    auto const bytes = tensors.bytes();
    return peft_folder(stiefelx::write_peft_config({.rank = 2}), bytes).others().size();
  };
  for (std::string const name :
       {"base_model.model.emb.lora_embedding_A", "base_model.model.q.lora_B.bias",
        "base_model.model.k.lora_A.default.weight", "base_model.model.up.lora_A0.weight",
        "base_model.model.q.lora_magnitude_vector.default.weight", "lora_route.weight"})
    expect_fault(format_fault::name, "'" + name + "'", [&] { open(name); });
  // Names that hold the word elsewhere are those of other tensors.
  for (std::string const name : {"base_model.model.w_lora_.weight", "lora.0.weight", "gate"})
    BOOST_TEST(open(name) == 1U);
}

BOOST_AUTO_TEST_CASE(a_folder_that_would_be_refused_is_not_written) {
  temporary_folder const folder;
  matrix const a = drawn(5, 2, 1), b = drawn(2, 3, 2), m = drawn(1, 3, 3), wide = drawn(1, 7, 4);
  auto const tensors = folder / "adapter_model.safetensors";
  auto const described = folder / "adapter_config.json";
  put(tensors, "old");
  put(described, "old");
  auto const refuses = [&](format_fault fault, std::string_view named, peft_config const& config,
                           auto const& add) {
    peft_writer writer(config);
    add(writer);
    BOOST_TEST_CONTEXT(named) {
      expect_fault(fault, named, [&] { writer.write(folder / ""); });
      // Nothing was opened: it fails before the folder is looked at.
      expect_fault(fault, "peft_writer: ", [&] { writer.write("/nowhere"); });
      BOOST_TEST((content(tensors) == "old" && content(described) == "old"));
    }
  };
  using enum format_fault;
  auto const plain = [&](peft_writer& w) { w.add("q", a, b); };
  refuses(missing_tensor, "no adapter", {.rank = 2}, [](peft_writer&) {});
  refuses(member, "r 0", {.rank = 0}, plain);
  refuses(member, "r -2", {.rank = -2}, plain);
  for (double const rate : {1.0, 1.5, -0.5})
    refuses(member, "lora_dropout", {.rank = 2, .dropout = rate}, plain);
  // Such a name cannot be a pattern.
  for (char const* name : {"q(1)", "^q", "a+b"})
    refuses(member, "not an expression", {.rank = 8}, [&](peft_writer& w) { w.add(name, a, b); });
  // A pattern for the fused parameter alone, which the reader cannot follow.
  refuses(shape, "a pattern for the parameter", {.rank = 2, .alpha_pattern = {{"w", 4}}},
          [&](peft_writer& w) { w.add_flat_experts("e.w", 1, flat_layout::rank_major, a, b); });

  refuses(shape, "'q' without magnitudes", {.rank = 2, .dora = true}, plain);
  refuses(shape, "'k' without magnitudes", {.rank = 2}, [&](peft_writer& w) {
    w.add("q", a, b);
    w.add("k", a, b);
    w.add_magnitude("q", m);
  });
  refuses(shape, "'q' with 7 magnitudes, expected 3", {.rank = 2}, [&](peft_writer& w) {
    w.add("q", a, b);
    w.add_magnitude("q", wide);
  });
  refuses(shape, "'k' without lora_A", {.rank = 2}, [&](peft_writer& w) {
    w.add("q", a, b);
    w.add_magnitude("q", m);
    w.add_magnitude("k", m);
  });
  refuses(member, "'v_proj' outside of target_modules",
          {.rank = 2, .target_modules = {"q_proj", "proj"}}, [&](peft_writer& w) {
            w.add("a.q_proj", a, b);
            w.add("v_proj", a, b);
          });
}

BOOST_AUTO_TEST_CASE(what_is_close_to_refused_is_written) {
  temporary_folder const folder;
  matrix const a = drawn(5, 2, 1), b = drawn(2, 3, 2), m = drawn(1, 3, 3);
  auto const comes_back = [&](peft_config const& config, char const* name) {
    peft_writer writer(config);
    // Magnitudes may come first.
    if (config.dora) writer.add_magnitude(name, m);
    writer.add(name, a, b);
    writer.write(folder / "");
    BOOST_TEST(peft_folder(folder / "", {.accept_changed_base = true}).at(name).rank == 2);
  };
  comes_back({.rank = 2, .dora = true}, "q");
  comes_back({.rank = 2}, "q(1)");
  comes_back({.rank = 2, .target_modules = {"a.q"}}, "layers.a.q");
  comes_back({.rank = 2, .target_modules = {".*[qk]"}, .target_is_expression = true}, "q");
  comes_back({.rank = 2, .initialization = "pissa"}, "q");
}

BOOST_AUTO_TEST_CASE(factors_of_rank_0_and_magnitudes_in_a_column_are_not_taken) {
  matrix const down = zero(5, 0), up = zero(0, 3), column = drawn(3, 1, 1), none = zero(0, 3);
  peft_writer writer({.rank = 2});
  BOOST_CHECK_THROW(writer.add("q", down, up), stiefelx::shape_error);
  BOOST_CHECK_THROW(writer.add_experts("q.", 2, down, up), stiefelx::shape_error);
  BOOST_CHECK_THROW(writer.add_magnitude("q", column), stiefelx::shape_error);
  BOOST_CHECK_THROW(writer.add_magnitude("q", none), stiefelx::shape_error);
  peft_writer other({.rank = 0});
  BOOST_CHECK_THROW(other.add_flat_experts("q.w", 2, flat_layout::rank_major, down, up),
                    stiefelx::shape_error);
}

BOOST_AUTO_TEST_SUITE_END()
