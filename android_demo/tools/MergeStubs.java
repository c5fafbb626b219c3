import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;
import org.jetbrains.org.objectweb.asm.ClassReader;
import org.jetbrains.org.objectweb.asm.ClassVisitor;
import org.jetbrains.org.objectweb.asm.ClassWriter;
import org.jetbrains.org.objectweb.asm.FieldVisitor;
import org.jetbrains.org.objectweb.asm.MethodVisitor;
import org.jetbrains.org.objectweb.asm.Opcodes;

/**
 * Adds newer classes and members to an old platform jar, to compile against: {@code MergeStubs OLD.jar STUBS NEW.jar}.
 *
 * A class of the folder STUBS that the jar has already gives it the members that it lacks; one with the same name and
 * descriptor replaces the jar's, for it may have become generic. Java's own classes are left out: a JDK has newer ones.
 */
public class MergeStubs {
    public static void main(String[] arguments) throws Exception {
        Map<String, byte[]> stubs = new TreeMap<>();
        Path root = Path.of(arguments[1]);
        try (var files = Files.walk(root)) {
            for (Path file : (Iterable<Path>) files.filter(Files::isRegularFile)::iterator) {
                stubs.put(root.relativize(file).toString(), Files.readAllBytes(file));
            }
        }
        try (ZipFile old = new ZipFile(arguments[0]);
                ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(Path.of(arguments[2])))) {
            for (ZipEntry entry : Collections.list(old.entries())) {
                String name = entry.getName();
                if (!name.endsWith(".class") || name.startsWith("java/") || name.startsWith("javax/")) continue;
                byte[] stub = stubs.remove(entry.getName());
                try (InputStream in = old.getInputStream(entry)) {
                    byte[] bytes = in.readAllBytes();
                    write(out, entry.getName(), stub == null ? bytes : merged(bytes, stub));
                }
            }
            for (var stub : stubs.entrySet()) write(out, stub.getKey(), stub.getValue());
        }
    }

    private static void write(ZipOutputStream out, String name, byte[] bytes) throws Exception {
        out.putNextEntry(new ZipEntry(name));
        out.write(bytes);
    }

    private static byte[] merged(byte[] old, byte[] stub) {
        ClassWriter writer = new ClassWriter(0);
        Set<String> added = new HashSet<>();
        ClassVisitor names = new ClassVisitor(Opcodes.ASM9) {
            @Override
            public MethodVisitor visitMethod(int access, String name, String type, String signature, String[] thrown) {
                added.add(name + type);
                return null;
            }

            @Override
            public FieldVisitor visitField(int access, String name, String type, String signature, Object value) {
                added.add(name + type);
                return null;
            }
        };
        new ClassReader(stub).accept(names, 0);
        new ClassReader(old).accept(new ClassVisitor(Opcodes.ASM9, writer) {
            @Override
            public MethodVisitor visitMethod(int access, String name, String type, String signature, String[] thrown) {
                boolean replaced = added.contains(name + type) && !name.startsWith("<");
                return replaced ? null : super.visitMethod(access, name, type, signature, thrown);
            }

            @Override
            public FieldVisitor visitField(int access, String name, String type, String signature, Object value) {
                return added.contains(name + type) ? null : super.visitField(access, name, type, signature, value);
            }

            @Override
            public void visitEnd() {
                addMembers(stub, writer, constructorsOf(old));
                super.visitEnd();
            }
        }, 0);
        return writer.toByteArray();
    }

    private static Set<String> constructorsOf(byte[] old) {
        Set<String> found = new HashSet<>();
        new ClassReader(old).accept(new ClassVisitor(Opcodes.ASM9) {
            @Override
            public MethodVisitor visitMethod(int access, String name, String type, String signature, String[] thrown) {
                if (name.startsWith("<")) found.add(name + type);
                return null;
            }
        }, 0);
        return found;
    }

    private static void addMembers(byte[] stub, ClassWriter writer, Set<String> constructors) {
        new ClassReader(stub).accept(new ClassVisitor(Opcodes.ASM9) {
            @Override
            public MethodVisitor visitMethod(int access, String name, String type, String signature, String[] thrown) {
                boolean isThere = name.equals("<clinit>") || constructors.contains(name + type);
                return isThere ? null : writer.visitMethod(access, name, type, signature, thrown);
            }

            @Override
            public FieldVisitor visitField(int access, String name, String type, String signature, Object value) {
                return writer.visitField(access, name, type, signature, value);
            }

            @Override
            public void visitInnerClass(String name, String outer, String inner, int access) {
                if (name.startsWith(className(stub) + "$")) writer.visitInnerClass(name, outer, inner, access);
            }
        }, 0);
    }

    private static String className(byte[] bytes) {
        return new ClassReader(bytes).getClassName();
    }
}
