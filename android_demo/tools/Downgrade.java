import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
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
 * Makes class files of Java 8 out of newer ones: {@code Downgrade NEW.jar OLD.jar}. The dexer of Debian reads no others.
 *
 * Nests came with Java 11: without them, private members of nested classes are opened to their package.
 */
public class Downgrade {
    public static void main(String[] arguments) throws Exception {
        try (ZipFile in = new ZipFile(arguments[0]);
                ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(Path.of(arguments[1])))) {
            for (ZipEntry entry : Collections.list(in.entries())) {
                String name = entry.getName();
                if (!name.endsWith(".class") || name.startsWith("META-INF/") || name.equals("module-info.class")) continue;
                out.putNextEntry(new ZipEntry(name));
                try (InputStream bytes = in.getInputStream(entry)) {
                    out.write(downgraded(bytes.readAllBytes()));
                }
            }
        }
    }

    private static byte[] downgraded(byte[] bytes) {
        ClassWriter writer = new ClassWriter(0);
        new ClassReader(bytes).accept(new ClassVisitor(Opcodes.ASM9, writer) {
            @Override
            public void visit(int version, int access, String name, String signature, String parent, String[] interfaces) {
                super.visit(Math.min(version & 0xffff, Opcodes.V1_8), access, name, signature, parent, interfaces);
            }

            @Override
            public void visitNestHost(String host) {}

            @Override
            public void visitNestMember(String member) {}

            @Override
            public FieldVisitor visitField(int access, String name, String type, String signature, Object value) {
                return super.visitField(access & ~Opcodes.ACC_PRIVATE, name, type, signature, value);
            }

            @Override
            public MethodVisitor visitMethod(int access, String name, String type, String signature, String[] thrown) {
                // What a lambda calls stays private: it is called without a nest, too.
                int opened = name.startsWith("lambda$") ? access : access & ~Opcodes.ACC_PRIVATE;
                return super.visitMethod(opened, name, type, signature, thrown);
            }
        }, 0);
        return writer.toByteArray();
    }
}
