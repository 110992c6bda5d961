// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Layers with a mixture of LoRA experts on the device, whole and in pieces, and recorded as a graph.

#include <memory>
#include <string>
#include <vector>

#include <stiefelx/cuda/graph.hpp>
#include <stiefelx/nn/expert_gram_schmidt.hpp>

#include "bench/cuda/layer.hpp"
#include "bench/cuda/suite.hpp"

namespace {

namespace cuda = stiefelx::cuda;
using bench::device_call;
using bench::index_t;
using bench::layer;
using bench::layer_sizes;
using stiefelx::mixing;

// --- whole layers --------------------------------------------------------------------------------

struct form {
  char const* forward;
  char const* both;
  mixing kind;
};

// run(layer) queues what is timed; look(layer) looks at it.
template <class Run, class Look>
void add_layer(bench::device_suite& to, char const* name, layer_sizes size, bench::work cost,
               mixing kind, Run const& run, Look const& look) {
  to.add({name, size.shape(), "float", "stiefelx"}, cost, [size, kind, run, look]() -> device_call {
    auto const l = std::make_shared<layer>(size, kind);
    return {l->ctx.queue, [l, run] { run(*l); }, [l, look] { return look(*l); }};
  });
}

// The same, recorded once; the recorded call comes after a plain one, which makes the scratch.
template <class Run, class Look>
void add_graph(bench::device_suite& to, char const* name, layer_sizes size, bench::work cost,
               mixing kind, Run const& run, Look const& look) {
  to.add({name, size.shape(), "float", "stiefelx-graph"}, cost,
         [size, kind, run, look]() -> device_call {
           struct state {
             layer l;
             cuda::graph recorded;
             state(layer_sizes sizes, mixing form, Run const& step)
                 : l(sizes, form), recorded(record(l, step)) {}
             static cuda::graph record(layer& of, Run const& step) {
               step(of);
               fill(of.ctx, 0, of.y);
               return capture(of.ctx, [&] { step(of); });
             }
           };
           auto const s = std::make_shared<state>(size, kind, run);
           return {s->l.ctx.queue, [s] { replay(s->l.ctx, s->recorded); },
                   [s, look] { return look(s->l); }};
         });
}

void add_layers(bench::device_suite& to, layer_sizes size) {
  // A wrong base would show in every other row of the size.
  auto const finite = [](layer& l) {
    return bench::finiteness_fault(l.ctx, "the last token", l.y.middleCols(l.size.tokens - 1, 1));
  };
  add_layer(
      to, "moe_lora_base_forward", size, size.base(false), mixing::none,
      [](layer& l) { l.base(false); }, finite);
  add_layer(
      to, "moe_lora_base_forward_backward", size, size.base(true), mixing::none,
      [](layer& l) { l.base(true); }, finite);
  auto const forward = [](layer& l) { l.forward(); };
  auto const both = [](layer& l) { l.forward_backward(); };
  auto const output = [](layer& l) { return l.output_fault(); };
  auto const everything = [](layer& l) {
    std::string const fault = l.output_fault();
    return fault.empty() ? l.gradient_fault() : fault;
  };
  for (form const& f : {form{"moe_lora_forward", "moe_lora_forward_backward", mixing::none},
                        form{"omoe_forward", "omoe_forward_backward", mixing::orthogonal}}) {
    bool const orthogonal = f.kind == mixing::orthogonal;
    add_layer(to, f.forward, size, size.whole(false, orthogonal), f.kind, forward, output);
    add_graph(to, f.forward, size, size.whole(false, orthogonal), f.kind, forward, output);
    add_layer(to, f.both, size, size.whole(true, orthogonal), f.kind, both, everything);
    // A look at the gradients runs the layer, which must not find the graph's scratch taken.
    add_graph(to, f.both, size, size.whole(true, orthogonal), f.kind, both, output);
  }
}

// --- routed products -----------------------------------------------------------------------------

struct routed {
  cuda::context ctx;
  layer_sizes size;
  cuda::matrix<int> ids;
  cuda::matrix<float> factor, x, h, result;

  routed(layer_sizes sizes, index_t rows, index_t cols)
      : size(sizes),
        ids(size.chosen, size.tokens),
        factor(bench::normal<float>(ctx, size.width, size.experts * size.rank, 1, 1)),
        x(bench::normal<float>(ctx, size.width, size.tokens, 1, 2)),
        h(bench::normal<float>(ctx, size.chosen * size.rank, size.tokens, 1, 3)),
        result(zeros<float>(ctx, rows, cols)) {
    std::vector<int> chosen;
    for (index_t t = 0; t < size.tokens; ++t)
      for (index_t i = 0; i < size.chosen; ++i)
        chosen.push_back(static_cast<int>((t * 5 + t / 7 + i * 3) % size.experts));
    upload(ctx, chosen.data(), ids);
  }

  // Each entry of one column, or of one row, of the result by a plain loop.
  template <class Entry>
  std::string fault(index_t column, Entry const& entry) {
    auto const found = bench::on_host(ctx, result.middleCols(column, 1));
    std::vector<double> expected;
    for (index_t i = 0; i < result.rows(); ++i) expected.push_back(entry(i));
    return bench::difference_fault("column " + std::to_string(column), {found.begin(), found.end()},
                                   expected, 1e-4);
  }
};

template <class Run, class Look>
void add_routed(bench::device_suite& to, char const* name, layer_sizes size, index_t rows,
                index_t cols, Run const& run, Look const& look) {
  to.add({name, size.shape(), "float", "stiefelx"}, size.routed(),
         [size, rows, cols, run, look]() -> device_call {
           auto const s = std::make_shared<routed>(size, rows, cols);
           return {s->ctx.queue, [s, run] { run(*s); }, [s, look] { return look(*s); }};
         });
}

// Entries of a matrix of the device, read as (i, j) in double.
struct entries {
  std::vector<float> data;
  index_t rows;

  template <class A>
  entries(cuda::context& ctx, A const& a) : data(bench::on_host(ctx, a)), rows(a.rows()) {}
  double operator()(index_t i, index_t j) const {
    return static_cast<double>(data[static_cast<std::size_t>(i + j * rows)]);
  }
};

void add_routed_products(bench::device_suite& to, layer_sizes size) {
  index_t const ranks = size.chosen * size.rank, all = size.experts * size.rank;
  index_t const last = size.tokens - 1;
  add_routed(
      to, "routed_multiply", size, ranks, size.tokens,
      [](routed& s) { routed_multiply(s.ctx, s.ids, s.factor, s.x, s.result); },
      [last](routed& s) {
        auto const ids = bench::on_host(s.ctx, s.ids.middleCols(last, 1));
        entries const a(s.ctx, s.factor), x(s.ctx, s.x.middleCols(last, 1));
        return s.fault(last, [&](index_t i) {
          index_t const r = s.size.rank;
          index_t const c = ids[static_cast<std::size_t>(i / r)] * r + i % r;
          double sum = 0;
          for (index_t j = 0; j < s.size.width; ++j) sum += a(j, c) * x(j, 0);
          return sum;
        });
      });
  add_routed(
      to, "routed_multiply_add", size, size.width, size.tokens,
      [](routed& s) { routed_multiply_add(s.ctx, 0.5, s.ids, s.factor, s.h, s.result); },
      [last](routed& s) {
        auto const ids = bench::on_host(s.ctx, s.ids.middleCols(last, 1));
        entries const a(s.ctx, s.factor), h(s.ctx, s.h.middleCols(last, 1));
        return s.fault(last, [&](index_t i) {
          index_t const r = s.size.rank;
          double sum = 0;
          for (index_t c = 0; c < h.rows; ++c)
            sum += 0.5 * a(i, ids[static_cast<std::size_t>(c / r)] * r + c % r) * h(c, 0);
          return sum;
        });
      });
  // Sum over the slots of expert e, entry (i, c) of its own gradient.
  auto const outer = [](routed& s, index_t e, index_t c, bool by_rows) {
    auto const ids = bench::on_host(s.ctx, s.ids);
    entries const x(s.ctx, s.x), h(s.ctx, s.h);
    index_t const k = s.size.chosen, r = s.size.rank;
    auto const entry = [&](index_t expert, index_t place, index_t i) {
      double sum = 0;
      for (index_t t = 0; t < s.size.tokens; ++t)
        for (index_t slot = 0; slot < k; ++slot)
          if (ids[static_cast<std::size_t>(slot + t * k)] == expert)
            sum += 0.5 * x(i, t) * h(slot * r + place, t);
      return sum;
    };
    if (by_rows) return s.fault(0, [&](index_t i) { return entry(i / r, i % r, 0); });
    return s.fault(e * r + c, [&](index_t i) { return entry(e, c, i); });
  };
  add_routed(
      to, "routed_outer_add", size, size.width, all,
      [](routed& s) { routed_outer_add(s.ctx, 0.5, s.ids, s.x, s.h, s.result); },
      [outer](routed& s) { return outer(s, s.size.experts - 1, s.size.rank - 1, false); });
  add_routed(
      to, "routed_adjoint_outer_add", size, all, size.width,
      [](routed& s) { routed_adjoint_outer_add(s.ctx, 0.5, s.ids, s.h, s.x, s.result); },
      [outer](routed& s) { return outer(s, 0, 0, true); });
}

// --- outputs that exist --------------------------------------------------------------------------

void add_token_space(bench::device_suite& to, index_t tokens, index_t k, index_t d) {
  double const t = static_cast<double>(tokens), terms = static_cast<double>(k);
  double const width = static_cast<double>(d);
  std::string const shape =
      "T=" + std::to_string(tokens) + ",k=" + std::to_string(k) + ",d=" + std::to_string(d);
  to.add({"expert_gram_schmidt", shape, "float", "stiefelx"},
         {terms * (terms + 3) * t * width, (terms + 1) * t * width * sizeof(float)},
         [tokens, k, d]() -> device_call {
           struct state {
             cuda::context ctx;
             cuda::matrix<float> outputs, weights, y;
             state(index_t count, index_t of, index_t rows)
                 : outputs(bench::normal<float>(ctx, rows, of * count, 1, 1)),
                   weights(bench::normal<float>(ctx, of, count, 1, 2)),
                   y(rows, count) {}
           };
           auto const s = std::make_shared<state>(tokens, k, d);
           return {s->ctx.queue,
                   [s] {
                     stiefelx::expert_gram_schmidt(s->ctx, s->outputs, s->weights, s->y,
                                                   {.kind = mixing::orthogonal});
                   },
                   [s, tokens, k] {
                     index_t const t_ = tokens - 1;
                     entries const e(s->ctx, s->outputs.middleCols(t_ * k, k));
                     entries const c(s->ctx, s->weights.middleCols(t_, 1));
                     auto const found = bench::on_host(s->ctx, s->y.middleCols(t_, 1));
                     std::vector<double> expected(found.size());
                     std::vector<std::vector<double>> earlier;
                     for (index_t i = 0; i < k; ++i) {
                       std::vector<double> v;
                       for (index_t row = 0; row < e.rows; ++row) v.push_back(e(row, i));
                       for (auto const& u : earlier) {
                         double const along = bench::detail::dot(v, u) / bench::detail::dot(u, u);
                         for (std::size_t row = 0; row < v.size(); ++row) v[row] -= along * u[row];
                       }
                       for (std::size_t row = 0; row < v.size(); ++row)
                         expected[row] += c(i, 0) * v[row];
                       earlier.push_back(std::move(v));
                     }
                     return bench::difference_fault("the last token", {found.begin(), found.end()},
                                                    expected, 1e-4);
                   }};
         });
}

}  // namespace

int main(int argc, char** argv) {
  bench::device_suite cases(argc, argv);
  std::vector<layer_sizes> const sizes =
      cases.small()
          ? std::vector<layer_sizes>{{6, 12, 3, 2, 2}}
          : std::vector<layer_sizes>{{2048, 1024}, {2048, 4096}, {16384, 1024}, {16384, 4096}};
  for (layer_sizes const& size : sizes) {
    if (size.tokens <= 2048) add_routed_products(cases, size);
    add_layers(cases, size);
  }
  if (cases.small()) {
    add_token_space(cases, 3, 2, 12);
  } else {
    add_token_space(cases, 4096, 4, 1024);
    add_token_space(cases, 2048, 2, 4096);
  }
  return cases.run();
}
