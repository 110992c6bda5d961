// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs what is meant to end a program in a process of its own, and tells how that ended.
#pragma once

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include <fake_cuda/fake.hpp>

namespace child {

enum class end {
  normal,        ///< nothing happened
  stopped,       ///< the fake refused a call
  thrown,        ///< another exception
  memory_fault,  ///< SIGSEGV or SIGBUS
  aborted,       ///< std::terminate
  exit_code,     ///< anything else, e.g. a sanitizer
};

struct report {
  end how;
  std::string text;  ///< what was written to standard error
};

/// \param[in] leave  whether the child leaves by std::exit(), which looks for leaks
template <class F>
report run(F const& f, bool leave = false) {
  int ends[2];
  if (::pipe(ends) != 0) return {end::exit_code, "pipe failed"};
  std::fflush(nullptr);
  pid_t const pid = ::fork();
  if (pid == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    rlimit const no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    for (int const signal : {SIGSEGV, SIGBUS}) std::signal(signal, [](int) { ::_exit(13); });
    std::signal(SIGABRT, [](int) { ::_exit(14); });
    int code = 10;
    try {
      f();
    } catch (fake_cuda::fault const&) {
      code = 11;
    } catch (std::exception const& error) {
      std::fprintf(stderr, "%s\n", error.what());
      code = 12;
    }
    if (leave) std::exit(code);
    ::_exit(code);
  }
  ::close(ends[1]);
  report made{end::exit_code, ""};
  char piece[256];
  for (ssize_t n; (n = ::read(ends[0], piece, sizeof piece)) > 0;)
    made.text.append(piece, static_cast<std::size_t>(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  int const code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (code >= 10 && code <= 14) made.how = static_cast<end>(code - 10);
  return made;
}

}  // namespace child
