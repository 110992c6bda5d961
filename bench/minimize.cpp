// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Cases leading_eigenspace: from a start to a gradient of 1e-8, 1e-6 or 1e-3 times the norm of the
// matrix, with the defaults of each solver. Calls cycle through five starts. The trust region works
// with subspaces, the others with their bases: along the rotations of a basis the Hessian vanishes,
// where it solves in vain.
//
// STIEFELX_BENCH_DATA names the folder that takes the matrix, the starts and the final points, for
// the peers and the judge; without it they go to a folder that is removed at the end.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>

#include <stiefelx/manifold/grassmann.hpp>
#include <stiefelx/manifold/stiefel_hessian.hpp>
#include <stiefelx/optim/barzilai_borwein.hpp>
#include <stiefelx/optim/conjugate_gradient.hpp>
#include <stiefelx/optim/limited_bfgs.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <stiefelx/optim/trust_region.hpp>
#include <stiefelx/stiefelx.hpp>

#include "bench/support/cases.hpp"
#include "bench/support/eigenspace.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/suite.hpp"
#include "bench/support/version.hpp"

namespace {

using bench::timed_call;
using contest = bench::leading_eigenspace;
using matrix = bench::matrix<double>;
namespace fs = std::filesystem;

// The folder that contestants and judge share.
class shared_folder {
 public:
  shared_folder() {
    char const* const given = std::getenv("STIEFELX_BENCH_DATA");
    owned_ = given == nullptr || *given == '\0';
    path_ = owned_ ? fs::temp_directory_path() /
                         ("stiefelx-eigenspace-" + std::to_string(std::random_device{}()))
                   : fs::path(given);
    fs::create_directories(path_);
  }
  shared_folder(shared_folder const&) = delete;
  shared_folder& operator=(shared_folder const&) = delete;
  ~shared_folder() {
    std::error_code ignored;
    if (owned_) fs::remove_all(path_, ignored);
  }

  std::string file(char const* name) const { return (path_ / name).string(); }
  std::string name() const { return path_.string(); }

 private:
  fs::path path_;
  bool owned_ = false;
};

// The matrix, its norm and the starts, written once.
struct data {
  shared_folder folder;
  matrix a;
  double norm = 0;
  std::array<matrix, contest::starts> starts;

  data() {
    matrix const normal = bench::normal_matrix<double>(contest::n, contest::n, 1);
    a = (normal + normal.transpose()) / (2 * std::sqrt(static_cast<double>(contest::n)));
    Eigen::SelfAdjointEigenSolver<matrix> const solver(a, Eigen::EigenvaluesOnly);
    norm = solver.eigenvalues().cwiseAbs().maxCoeff();
    matrix all(contest::n, contest::p * contest::starts);
    for (unsigned k = 0; k < contest::starts; ++k) {
      Eigen::HouseholderQR<matrix> const qr(
          bench::normal_matrix<double>(contest::n, contest::p, 2 + k));
      starts[k] = qr.householderQ() * matrix::Identity(contest::n, contest::p);
      all.middleCols(k * contest::p, contest::p) = starts[k];
    }
    bench::write_doubles(folder.file("matrix"), a.data(), a.size());
    bench::write_doubles(folder.file("starts"), all.data(), all.size());
    bench::write_doubles(folder.file("norm"), &norm, 1);
  }
};

// Minus half the trace of x^T A x; A x is found once a point.
template <class Manifold>
struct leading {
  Manifold manifold;
  matrix const& a;

  struct cache {
    matrix product;
  };

  template <class Ctx, class X>
  cache make_cache(Ctx&, X const& x) const {
    return {matrix(x.rows(), x.cols())};
  }
  template <class Ctx, class X>
  double cost(Ctx& ctx, X const& x, cache& known) const {
    multiply(ctx, a, x, known.product);
    return -0.5 * x.cwiseProduct(known.product).sum();
  }
  template <class Ctx, class X, class G>
  void gradient(Ctx&, X const&, cache& known, G&& g) const {
    g = -known.product;
  }
  template <class Ctx, class X, class V, class H>
  void hessian(Ctx& ctx, X const&, cache&, V const& v, H&& h) const {
    multiply(ctx, a, v, h);
    h = -h;
  }
};

// Asks the judge, the program beside this one.
std::string judged(std::string const& judge, std::string const& folder, std::string const& who,
                   double accuracy) {
  std::string const command =
      "'" + judge + "' '" + folder + "' '" + who + "' " + std::to_string(1 / accuracy) + " 2>&1";
  std::FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "the judge cannot be run";
  std::string text;
  char part[256];
  while (std::fgets(part, sizeof part, pipe) != nullptr) text += part;
  int const status = pclose(pipe);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (text.empty() && status != 0) return "the judge cannot be run";
  return text;
}

template <class Manifold, class Solver>
timed_call make(std::shared_ptr<data> const& d, std::string const& who, std::string const& judge,
                int threads, double accuracy, Manifold manifold, Solver solver) {
  struct state {
    explicit state(int threads) : ctx({.threads = threads}) {}
    stiefelx::host::context ctx;
    matrix x;
    std::size_t next = 0;
  };
  auto const s = std::make_shared<state>(threads);
  auto const solve = [d, s, manifold, solver, accuracy] {
    s->x = d->starts[s->next];
    s->next = (s->next + 1) % d->starts.size();
    minimize(s->ctx, leading<Manifold>{manifold, d->a}, s->x, solver,
             stiefelx::gradient_below{accuracy * d->norm} || stiefelx::iterations{10000});
  };
  return {solve, [d, s, solve, who, judge, accuracy] {
            matrix points(contest::n, contest::p * contest::starts);
            s->next = 0;
            for (std::ptrdiff_t k = 0; k < contest::starts; ++k) {
              solve();
              points.middleCols(k * contest::p, contest::p) = s->x;
            }
            bench::write_doubles(d->folder.file(who.c_str()), points.data(), points.size());
            return judged(judge, d->folder.name(), who, accuracy);
          }};
}

}  // namespace

int main(int argc, char** argv) {
  bench::suite cases(argc, argv, bench::library_version());
  std::string const judge =
      (fs::absolute(argv[0]).parent_path() / "bench_judge_leading_eigenspace").string();
  auto shared = std::make_shared<std::shared_ptr<data>>();
  // What cannot be avoided: one product with the matrix, which must be read.
  double const n = contest::n, p = contest::p;
  bench::work const cost{2 * n * n * p, (n * n + 2 * n * p) * sizeof(double)};
  auto const add = [&](contest const& what, std::string const& who, auto manifold, auto solver) {
    cases.add({what.name, contest::shape, bench::scalar_name<double>, who}, cost,
              [=, threads = cases.threads()] {
                if (!*shared) *shared = std::make_shared<data>();
                return make(*shared, who, judge, threads, what.accuracy, manifold, solver);
              });
  };
  stiefelx::stiefel const bases{contest::n, contest::p};
  stiefelx::grassmann const subspaces{contest::n, contest::p};
  for (contest const& what : bench::leading_eigenspaces) {
    add(what, "stiefelx", bases, stiefelx::barzilai_borwein{});
    add(what, "stiefelx-lbfgs", bases, stiefelx::limited_bfgs{});
    add(what, "stiefelx-cg", bases, stiefelx::conjugate_gradient{});
    add(what, "stiefelx-tr", subspaces, stiefelx::trust_region{});
  }
  return cases.run();
}
