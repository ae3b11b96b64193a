/* A libnvidia-ml.so.1 for tests. Its GPUs live in the file that FAKE_NVML_STATE names, so that other
 * processes, and the test, see what is set. conftest.py has the same structs for ctypes.
 *
 * Only what wattshed calls through pynvml is here. Whatever else is called is not found, as in an
 * older driver.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };
enum { MAX_GPUS = 4, N_SCOPES = 4, POWER_AVERAGE = 185, POWER_INSTANT = 186, UNSIGNED_INT = 1 };

typedef struct {
    char uuid[48], name[48];
    int64_t major, minor;                     /* compute capability */
    int64_t lost;                             /* what every query returns, if not 0 */
    int64_t mig, mig_result, c2c;             /* c2c: a superchip's chip-to-chip link */
    int64_t power_mw, t0_ns, tick_ns, energy_result;
    int64_t instant_mw[N_SCOPES], instant_result[N_SCOPES];
    int64_t average_mw[N_SCOPES], average_result[N_SCOPES];
    int64_t usage_mw, usage_result;
    int64_t limit_mw, limit_min_mw, limit_max_mw, limit_get_result, limit_set_result, limit_stuck;
    int64_t clock_mhz, clock_min_mhz, clock_max_mhz, clock_step_mhz;
    int64_t lock_mhz, lock_result, lock_stuck; /* lock 0: not locked */
    int64_t writes;                           /* settings that were changed, ever */
    int64_t temperature_c, temperature_result, reasons, reasons_result;
} Gpu;

typedef struct {
    int64_t init_result, n_gpus;
    Gpu gpus[MAX_GPUS];
} Machine;

static Machine *machine;

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    const char *path = getenv("FAKE_NVML_STATE");
    if (machine) munmap(machine, sizeof *machine);
    machine = NULL;
    int file = path ? open(path, O_RDWR) : -1;
    if (file < 0) return DRIVER_NOT_LOADED;
    void *found = mmap(NULL, sizeof *machine, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (found == MAP_FAILED) return DRIVER_NOT_LOADED;
    machine = found;
    return machine->init_result;
}

const char *nvmlErrorString(int result) { (void)result; return "as told by the fake"; }

int nvmlDeviceGetCount_v2(unsigned *count) { *count = machine->n_gpus; return OK; }

/* Handles are numbers and not addresses, since each initialisation may map the file elsewhere. */
static Gpu *gpu_of(void *handle) { return &machine->gpus[(intptr_t)handle - 1]; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index >= machine->n_gpus) return INVALID_ARGUMENT;
    *handle = (void *)(intptr_t)(index + 1);
    return machine->gpus[index].lost;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    for (unsigned i = 0; i < machine->n_gpus; i++)
        if (!strcmp(machine->gpus[i].uuid, uuid)) return nvmlDeviceGetHandleByIndex_v2(i, handle);
    return NOT_FOUND;
}

#define RETURN_IF(result) do { int64_t r = (result); if (r) return (int)r; } while (0)

int nvmlDeviceGetIndex(void *handle, unsigned *index) {
    *index = (unsigned)((intptr_t)handle - 1);
    return OK;
}

int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    strncpy(text, gpu_of(handle)->uuid, size);
    return OK;
}

int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    strncpy(text, gpu_of(handle)->name, size);
    return OK;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    RETURN_IF(gpu_of(handle)->mig_result);
    *current = *pending = gpu_of(handle)->mig;
    return OK;
}

int nvmlDeviceGetC2cModeInfoV(void *handle, unsigned *enabled) {
    if (!gpu_of(handle)->c2c) return NOT_SUPPORTED;
    *enabled = 1;
    return OK;
}

int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    *major = gpu_of(handle)->major;
    *minor = gpu_of(handle)->minor;
    return OK;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *energy_mj) {
    Gpu *gpu = gpu_of(handle);
    struct timespec now;
    RETURN_IF(gpu->lost);
    RETURN_IF(gpu->energy_result);
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t since_ns = now.tv_sec * 1000000000LL + now.tv_nsec - gpu->t0_ns;
    int64_t ticks = since_ns / gpu->tick_ns;
    *energy_mj = (unsigned long long)((double)ticks * gpu->tick_ns * 1e-9 * gpu->power_mw);
    return OK;
}

typedef struct {
    uint32_t field, scope;
    int64_t timestamp, latency_us;
    uint32_t type, result;
    union { double d; unsigned u; unsigned long long ull; } value;
} FieldValue;

int nvmlDeviceGetFieldValues(void *handle, int count, FieldValue *values) {
    Gpu *gpu = gpu_of(handle);
    RETURN_IF(gpu->lost);
    for (int i = 0; i < count; i++) {
        FieldValue *v = &values[i];
        int instant = v->field == POWER_INSTANT;
        if ((!instant && v->field != POWER_AVERAGE) || v->scope >= N_SCOPES) {
            v->result = INVALID_ARGUMENT;
            continue;
        }
        v->type = UNSIGNED_INT;
        v->result = instant ? gpu->instant_result[v->scope] : gpu->average_result[v->scope];
        v->value.u = instant ? gpu->instant_mw[v->scope] : gpu->average_mw[v->scope];
    }
    return OK;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *power_mw) {
    RETURN_IF(gpu_of(handle)->lost);
    RETURN_IF(gpu_of(handle)->usage_result);
    *power_mw = gpu_of(handle)->usage_mw;
    return OK;
}

int nvmlDeviceGetPowerManagementLimit(void *handle, unsigned *limit_mw) {
    RETURN_IF(gpu_of(handle)->lost);
    RETURN_IF(gpu_of(handle)->limit_get_result);
    *limit_mw = gpu_of(handle)->limit_mw;
    return OK;
}

int nvmlDeviceGetPowerManagementLimitConstraints(void *handle, unsigned *low, unsigned *high) {
    RETURN_IF(gpu_of(handle)->limit_get_result);
    *low = gpu_of(handle)->limit_min_mw;
    *high = gpu_of(handle)->limit_max_mw;
    return OK;
}

int nvmlDeviceSetPowerManagementLimit(void *handle, unsigned limit_mw) {
    Gpu *gpu = gpu_of(handle);
    RETURN_IF(gpu->lost);
    RETURN_IF(gpu->limit_set_result);
    if (limit_mw < gpu->limit_min_mw || limit_mw > gpu->limit_max_mw) return INVALID_ARGUMENT;
    gpu->writes++;
    if (!gpu->limit_stuck) gpu->limit_mw = limit_mw;
    return OK;
}

/* Lists are asked for twice: first for their size. */
static int list(unsigned low, unsigned high, unsigned step, unsigned *count, unsigned *found) {
    unsigned n = (high - low) / step + 1;
    if (*count < n || !found) { *count = n; return INSUFFICIENT_SIZE; }
    for (unsigned i = 0; i < n; i++) found[i] = high - i * step;
    *count = n;
    return OK;
}

int nvmlDeviceGetSupportedMemoryClocks(void *handle, unsigned *count, unsigned *found) {
    if (!gpu_of(handle)->clock_step_mhz) return NOT_SUPPORTED;
    return list(1593, 2619, 1026, count, found);
}

int nvmlDeviceGetSupportedGraphicsClocks(void *handle, unsigned memory, unsigned *count,
                                         unsigned *found) {
    Gpu *gpu = gpu_of(handle);
    if (memory != 2619) return INVALID_ARGUMENT;
    return list(gpu->clock_min_mhz, gpu->clock_max_mhz, gpu->clock_step_mhz, count, found);
}

int nvmlDeviceGetClockInfo(void *handle, unsigned type, unsigned *clock_mhz) {
    Gpu *gpu = gpu_of(handle);
    if (type) return INVALID_ARGUMENT;
    RETURN_IF(gpu->lost);
    *clock_mhz = gpu->lock_mhz && !gpu->lock_stuck ? gpu->lock_mhz : gpu->clock_mhz;
    return OK;
}

int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *temperature_c) {
    if (sensor) return INVALID_ARGUMENT;
    RETURN_IF(gpu_of(handle)->lost);
    RETURN_IF(gpu_of(handle)->temperature_result);
    *temperature_c = gpu_of(handle)->temperature_c;
    return OK;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons) {
    RETURN_IF(gpu_of(handle)->lost);
    *reasons = gpu_of(handle)->reasons;
    return OK;
}

int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *reasons) {
    RETURN_IF(gpu_of(handle)->reasons_result);
    return nvmlDeviceGetCurrentClocksThrottleReasons(handle, reasons);
}

int nvmlDeviceSetGpuLockedClocks(void *handle, unsigned low_mhz, unsigned high_mhz) {
    Gpu *gpu = gpu_of(handle);
    RETURN_IF(gpu->lost);
    RETURN_IF(gpu->lock_result);
    if (low_mhz > high_mhz) return INVALID_ARGUMENT;
    gpu->writes++;
    gpu->lock_mhz = high_mhz;
    return OK;
}

int nvmlDeviceResetGpuLockedClocks(void *handle) {
    Gpu *gpu = gpu_of(handle);
    RETURN_IF(gpu->lost);
    RETURN_IF(gpu->lock_result);
    gpu->writes++;
    gpu->lock_mhz = 0;
    return OK;
}
