package android.os;

import java.util.concurrent.Executor;

public final class PowerManager {
    public interface OnThermalStatusChangedListener { // 29
        void onThermalStatusChanged(int status);
    }

    public int getCurrentThermalStatus() { throw null; } // 29

    public void addThermalStatusListener(Executor executor, OnThermalStatusChangedListener listener) { throw null; } // 29

    public void removeThermalStatusListener(OnThermalStatusChangedListener listener) { throw null; } // 29
}
