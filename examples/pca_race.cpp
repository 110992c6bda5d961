// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   pca_race [SAMPLES [FILE]]
//
// Principal components of synthetic data by solvers of both families from one start: those for a
// cost on all of the data, and optimizers for training loops on batches of it. Prints a table and
// draws the gap to the optimum over time to FILE, pca_race.svg by default. Exits 1 if a solver ends
// farther from the optimum than its kind must.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>

#include <stiefelx/stiefelx.hpp>

#include "examples/support/file.hpp"
#include "examples/support/picture.hpp"

using namespace stiefelx;

namespace {

constexpr stiefel frames{.n = 100, .p = 5};
constexpr index_t batch = 100;
constexpr double smallest_gap = 1e-16;  // what the picture shows of a gap of zero

//! [problem]
// Minus half the variance of the data along the columns of x. The projected data are found once a
// point: cost() leaves them in the cache, and gradient() finds them there.
struct principal_components {
  stiefel manifold;
  Eigen::MatrixXd const& samples;  // n x T, a sample a column

  struct cache {
    Eigen::MatrixXd projected;  // T x p
  };

  template <class Ctx, class X>
  cache make_cache(Ctx&, X const& x) const {
    return {Eigen::MatrixXd(samples.cols(), x.cols())};
  }
  template <class Ctx, class X>
  double cost(Ctx&, X const& x, cache& known) const {
    known.projected.noalias() = samples.transpose() * x;
    return -0.5 / count() * known.projected.squaredNorm();
  }
  template <class Ctx, class X, class G>
  void gradient(Ctx&, X const&, cache& known, G&& g) const {
    g.noalias() = (-1 / count()) * samples * known.projected;
  }
  template <class Ctx, class X, class V, class H>
  void hessian(Ctx&, X const&, cache&, V const& v, H&& h) const {
    h.noalias() = (-1 / count()) * samples * (samples.transpose() * v);
  }

  double count() const { return static_cast<double>(samples.cols()); }
};
//! [problem]

// Standard deviations of the data fall from 1 by a twentieth a direction.
Eigen::MatrixXd make_samples(host::context& ctx, random_stream& stream, index_t count) {
  Eigen::MatrixXd samples(frames.n, count), directions(frames.n, frames.n);
  fill_normal(ctx, stream, 1, samples);
  random_point(ctx, stiefel{frames.n, frames.n}, stream, directions);
  for (index_t j = 0; j < frames.n; ++j) samples.row(j) *= std::pow(0.95, static_cast<double>(j));
  return directions * samples;
}

// What one solver did.
struct track {
  std::string name;
  index_t iterations = 0;
  double passes = 0;  // over the data: a product with all samples is half of one
  bool whole = true;  // whether it sees all data in every iteration
  double gap = 1;
  std::vector<double> seconds{}, gaps{};
};

class race {
 public:
  race(Eigen::MatrixXd const& samples, Eigen::MatrixXd const& start)
      : problem_{frames, samples}, start_(start) {
    Eigen::MatrixXd const covariance =
        samples * samples.transpose() / static_cast<double>(samples.cols());
    Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> const solver(covariance, Eigen::EigenvaluesOnly);
    best_ = -0.5 * solver.eigenvalues().tail(frames.p).sum();
    norm_ = solver.eigenvalues()(frames.n - 1);
  }

  double norm() const { return norm_; }
  std::vector<track> const& tracks() const { return tracks_; }

  // Relative to the optimum.
  double gap(double cost) const { return (cost - best_) / -best_; }

  //! [deterministic]
  template <class Solver>
  void run(std::string const& name, Solver const& solver) {
    host::context ctx;
    Eigen::MatrixXd x = start_;
    track t{.name = name};
    auto const watch = [&](iteration const& at, auto const&) {
      t.seconds.push_back(at.seconds);
      t.gaps.push_back(gap(at.cost));
    };
    minimum const found =
        minimize(ctx, problem_, x, solver, gradient_below{1e-9 * norm_} || iterations{2000}, watch);
    //! [deterministic]
    t.iterations = found.last.number;
    t.passes =
        0.5 * static_cast<double>(found.last.cost_evaluations + found.last.gradient_evaluations) +
        static_cast<double>(found.last.hessian_evaluations);
    finish(t, x);
  }

  //! [stochastic]
  template <class Make>
  void train(std::string const& name, double rate, index_t epochs, Make const& make) {
    host::context ctx;
    Eigen::MatrixXd x = start_, g(frames.n, frames.p);
    auto opt = make(ctx, x);
    index_t const batches = problem_.samples.cols() / batch, steps = epochs * batches;
    cosine_schedule const schedule{.peak = rate / norm_, .steps = steps, .final_fraction = 1e-3};
    track t{
        .name = name, .iterations = steps, .passes = static_cast<double>(epochs), .whole = false};
    double seconds = 0;
    for (index_t k = 0; k < steps; ++k) {
      auto const begun = std::chrono::steady_clock::now();
      auto const b = problem_.samples.middleCols(k % batches * batch, batch);
      g.noalias() = (-1.0 / batch) * b * (b.transpose() * x);
      opt.set_learning_rate(schedule(k));
      opt.step(ctx, x, g);
      seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
      if (k % 20 == 0) note(t, seconds, x);  // not timed
    }
    //! [stochastic]
    note(t, seconds, x);
    finish(t, x);
  }

 private:
  // Of the nearest frame: landing and pogo are a little off the manifold, where the cost is lower.
  double gap_of(Eigen::MatrixXd const& x) const {
    host::context ctx;
    Eigen::MatrixXd frame(x.rows(), x.cols());
    nearest_point(ctx, frames, x, frame);
    auto known = problem_.make_cache(ctx, frame);
    return gap(problem_.cost(ctx, frame, known));
  }

  void note(track& t, double seconds, Eigen::MatrixXd const& x) {
    t.seconds.push_back(seconds);
    t.gaps.push_back(gap_of(x));
  }

  void finish(track t, Eigen::MatrixXd const& x) {
    t.gap = gap_of(x);
    std::printf("%-22s %10td %9.1f %9.4f %9.1e\n", t.name.c_str(), t.iterations, t.passes,
                t.seconds.back(), t.gap);
    tracks_.push_back(std::move(t));
  }

  principal_components problem_;
  Eigen::MatrixXd const& start_;
  double best_ = 0, norm_ = 0;
  std::vector<track> tracks_;
};

std::string picture(std::vector<track> const& tracks) {
  example::line_chart chart{.title = "Principal components: gap to the optimum over time",
                            .x = {.label = "seconds"},
                            .y = {.label = "decimal logarithm of the relative gap"},
                            .series = {}};
  for (track const& t : tracks) {
    example::chart_series line{.name = t.name, .x = t.seconds, .y = {}, .error = {}};
    for (double gap : t.gaps) line.y.push_back(std::log10(std::max(gap, smallest_gap)));
    chart.series.push_back(line);
  }
  return example::draw(chart);
}

}  // namespace

int main(int count, char** arguments) {
  index_t const samples = count > 1 ? std::atol(arguments[1]) : 4000;
  if (samples < batch) {
    std::fprintf(stderr, "pca_race: SAMPLES is %s, expected a number of at least %td\n",
                 arguments[1], batch);
    return 2;
  }
  host::context ctx;
  random_stream stream{.seed = 4};
  Eigen::MatrixXd const data = make_samples(ctx, stream, samples);
  Eigen::MatrixXd start(frames.n, frames.p);
  random_point(ctx, frames, stream, start);

  std::printf("%-22s %10s %9s %9s %9s\n", "solver", "iterations", "passes", "seconds", "gap");
  race all(data, start);
  all.run("gradient_descent", gradient_descent{});
  all.run("barzilai_borwein", barzilai_borwein{});
  all.run("conjugate_gradient", conjugate_gradient{});
  all.run("limited_bfgs", limited_bfgs{});
  all.run("trust_region", trust_region{});
  all.train("riemannian_momentum", 0.2, 20, [](auto& where, auto& x) {
    return riemannian_momentum(where, frames, x, {.momentum = 0.9});
  });
  all.train("riemannian_adam", 0.03 * all.norm(), 20,
            [](auto& where, auto& x) { return riemannian_adam(where, frames, x); });
  all.train("landing", 0.5, 20, [](auto& where, auto& x) { return landing(where, frames, x); });
  all.train("pogo", 0.5, 20, [](auto& where, auto& x) { return pogo(where, frames, x); });

  std::string const file = count > 2 ? arguments[2] : "pca_race.svg";
  example::write_text_file(file, picture(all.tracks()));
  // Solvers on the whole cost end at its rounding; steps on batches end within their noise.
  for (track const& t : all.tracks()) {
    if (!(t.gap < (t.whole ? 1e-10 : 1e-2))) {
      std::fprintf(stderr, "pca_race: %s ends with a gap of %.1e\n", t.name.c_str(), t.gap);
      return 1;
    }
  }
  return 0;
}
