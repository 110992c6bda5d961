// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels whose answers are known, for the tests of the interpreter: each a functor given by value,
// as the library's kernels are.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

template <class Kernel>
__global__ void run_kernel(Kernel kernel) {
  kernel();
}

template <class T>
struct saxpy {
  T factor;
  T const* x;
  T* y;
  int size;
  __device__ void operator()() const {
    int const i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < size) y[i] += factor * x[i];
  }
};

extern __shared__ double4 shared_bytes[];

template <class T>
__device__ T block_sum(T value, T* exchange) {
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
  __syncthreads();
  if (threadIdx.x % 32 == 0) exchange[threadIdx.x / 32] = value;
  __syncthreads();
  T sum = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += exchange[w];
  return sum;
}

template <class T>
struct sum_rows {
  T const* x;
  T* sums;
  int columns;
  __device__ void operator()() const {
    T value = 0;
    for (int j = static_cast<int>(threadIdx.x); j < columns; j += static_cast<int>(blockDim.x))
      value += x[blockIdx.x * columns + j];
    value = block_sum(value, reinterpret_cast<T*>(shared_bytes));
    if (threadIdx.x == 0) sums[blockIdx.x] = value;
  }
};

// Columns of a size x count matrix in shared memory, made orthonormal one after the other.
template <class T>
struct gram_schmidt {
  T* a;
  int size, count;
  __device__ void operator()() const {
    T* const q = reinterpret_cast<T*>(shared_bytes) + 32;
    T* const exchange = reinterpret_cast<T*>(shared_bytes);
    int const first = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
    for (int i = first; i < size * count; i += step) q[i] = a[i];
    __syncthreads();
    for (int j = 0; j < count; ++j) {
      for (int k = 0; k <= j; ++k) {
        T dot = 0;
        for (int i = first; i < size; i += step) dot += q[k * size + i] * q[j * size + i];
        dot = block_sum(dot, exchange);
        for (int i = first; i < size; i += step) {
          T& entry = q[j * size + i];
          entry = k < j ? entry - dot * q[k * size + i] : entry / sqrt(dot);
        }
      }
    }
    __syncthreads();
    for (int i = first; i < size * count; i += step) a[i] = q[i];
  }
};

// The lower factor of a matrix of each block, in place and by columns.
template <class T>
struct cholesky {
  T* a;
  int size;
  __device__ void operator()() const {
    T* const l = reinterpret_cast<T*>(shared_bytes);
    T* const mine = a + blockIdx.x * size * size;
    int const first = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
    for (int i = first; i < size * size; i += step) l[i] = mine[i];
    for (int k = 0; k < size; ++k) {
      __syncthreads();
      T const pivot = sqrt(l[k * size + k]);
      __syncthreads();
      for (int i = k + first; i < size; i += step)
        l[k * size + i] = i == k ? pivot : l[k * size + i] / pivot;
      __syncthreads();
      for (int j = k + 1; j < size; ++j)
        for (int i = j + first; i < size; i += step)
          l[j * size + i] -= l[k * size + i] * l[k * size + j];
    }
    __syncthreads();
    for (int i = first; i < size * size; i += step) mine[i] = i % size < i / size ? T(0) : l[i];
  }
};

// Architectures before sm_80 compute no bfloat16: there it is float that is rounded.
template <class T>
__device__ T fused(T a, T b, T c) {
#if __CUDA_ARCH__ >= 800
  return __hfma(a, b, c);
#else
  return T(fmaf(float(a), float(b), float(c)));
#endif
}

// Fused products and sums of 16-bit numbers, of pairs of them, and a conversion.
template <class T, class Pair>
struct short_numbers {
  T const *a, *b, *c;
  T* out;
  float const* wide;
  T* rounded;
  __device__ void operator()() const {
    unsigned const i = threadIdx.x;
    out[i] = fused(a[i], b[i], c[i]);
    rounded[i] = T(wide[i]);
#if __CUDA_ARCH__ >= 800
    if (i % 2 == 0) {
      Pair const p = *reinterpret_cast<Pair const*>(a + i),
                 q = *reinterpret_cast<Pair const*>(b + i);
      *reinterpret_cast<Pair*>(out + blockDim.x + i) = __hadd2(p, __hmul2(q, q));
    }
#endif
  }
};

__device__ __noinline__ double polynomial(double x, float4 c) {
  return c.x + x * (c.y + x * (c.z + x * c.w));
}

// Functions that are called, a table of jumps, an array in local memory, functions with slow ways.
struct detours {
  float const* x;
  double* y;
  int const* choice;
  __device__ void operator()() const {
    unsigned const i = threadIdx.x;
    float const v = x[i];
    float table[6];
    for (int k = 0; k < 6; ++k) table[k] = static_cast<float>(k) * v;
    double out = 0;
    switch (choice[i]) {
      case 0:
        out = polynomial(v, make_float4(1, 2, 3, 4));
        break;
      case 1:
        out = sinf(100000.0f * v);
        break;
      case 2:
        out = exp(static_cast<double>(v));
        break;
      case 3:
        out = log(1.0 + v);
        break;
      case 4:
        out = erff(v);
        break;
      case 5:
        out = polynomial(polynomial(v, make_float4(0, 1, 0, 0)), make_float4(v, 0, 1, 0));
        break;
      case 6:
        out = rsqrt(static_cast<double>(v));
        break;
      default:
        out = powf(v, 2.5f);
    }
    y[i] = out + table[(choice[i] + 1) % 6];
  }
};

// What lanes of a warp do together, and atomics.
struct together {
  unsigned const* x;
  unsigned* out;
  int* histogram;
  float* sum;
  __device__ void operator()() const {
    unsigned const i = threadIdx.x, n = blockDim.x, all = 0xffffffffu;
    unsigned const v = x[i];
    out[i] = __ballot_sync(all, v & 1);
    out[n + i] = __match_any_sync(all, v);
    out[2 * n + i] = __shfl_up_sync(all, v, 3);
    out[3 * n + i] = __shfl_down_sync(all, v, 5, 8);
    out[4 * n + i] = __shfl_sync(all, v, 2, 16);
    out[5 * n + i] = __popc(v) + 100 * __clz(v) + 10000 * __ffs(v);
    out[6 * n + i] = __brev(v) ^ __byte_perm(v, 0x12345678u, 0x5a17);
    out[7 * n + i] = __umulhi(v, 0x9e3779b9u) + __funnelshift_l(v, ~v, 7);
    out[8 * n + i] = __any_sync(all, v == 3) + 2 * __all_sync(all, v < 100);
    atomicAdd(histogram + v % 8, 1);
    atomicAdd(sum, 0.5f);
  }
};

template __global__ void run_kernel(saxpy<float>);
template __global__ void run_kernel(saxpy<double>);
template __global__ void run_kernel(sum_rows<float>);
template __global__ void run_kernel(sum_rows<double>);
template __global__ void run_kernel(gram_schmidt<float>);
template __global__ void run_kernel(gram_schmidt<double>);
template __global__ void run_kernel(cholesky<float>);
template __global__ void run_kernel(cholesky<double>);
template __global__ void run_kernel(short_numbers<__half, __half2>);
template __global__ void run_kernel(short_numbers<__nv_bfloat16, __nv_bfloat162>);
template __global__ void run_kernel(detours);
template __global__ void run_kernel(together);
