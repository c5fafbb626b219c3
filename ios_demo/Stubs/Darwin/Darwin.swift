// What we believe of Darwin's <mach/task_info.h>, as Swift shows it, no more than EdgeRuntime uses. See ../CoreML/CoreML.swift.
@_exported import Foundation

// typedef int integer_t; natural_t mach_msg_type_number_t; natural_t task_flavor_t; natural_t mach_port_t; int kern_return_t
public typealias integer_t = Int32
public typealias natural_t = UInt32
public typealias mach_msg_type_number_t = UInt32
public typealias task_flavor_t = UInt32
public typealias mach_port_t = UInt32
public typealias kern_return_t = Int32

// #define KERN_SUCCESS 0     #define TASK_VM_INFO 22
public let KERN_SUCCESS: Int32 = 0
public let TASK_VM_INFO: Int32 = 22
// extern mach_port_t mach_task_self_;     a variable of C: Swift 6 takes it for shared mutable state
public var mach_task_self_: mach_port_t = 0

// struct task_vm_info: mach_vm_size_t resident_size, resident_size_peak, phys_footprint, ...
public struct task_vm_info_data_t {
    public var resident_size: UInt64 = 0
    public var resident_size_peak: UInt64 = 0
    public var phys_footprint: UInt64 = 0
    public var ledger_phys_footprint_peak: Int64 = 0
    public init() {}
}

// kern_return_t task_info(task_name_t target_task, task_flavor_t flavor, task_info_t task_info_out, mach_msg_type_number_t *count)
public func task_info(
    _ target: mach_port_t, _ flavor: task_flavor_t, _ out: UnsafeMutablePointer<integer_t>?,
    _ count: UnsafeMutablePointer<mach_msg_type_number_t>?
) -> kern_return_t { 0 }
