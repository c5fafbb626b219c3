package android.app;

public abstract class Service extends android.content.ContextWrapper {
    public static final int STOP_FOREGROUND_REMOVE = 1; // 24

    public Service() { super(null); }

    public final void startForeground(int id, Notification notification, int foregroundServiceType) { throw null; } // 29

    public final void stopForeground(int notificationBehavior) { throw null; } // 24

    public void onTimeout(int startId, int fgsType) { throw null; } // 35
}
