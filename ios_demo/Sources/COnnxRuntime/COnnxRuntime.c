#include "COnnxRuntime.h" // SwiftPM makes a module of a C target with at least one source
