#pragma once
#include <onnxruntime/onnxruntime_c_api.h>
#ifdef __linux__
#include <malloc.h> // Swift's module of the C library leaves it out
#endif
