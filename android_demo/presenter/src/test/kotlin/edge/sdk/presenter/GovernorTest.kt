package edge.sdk.presenter

import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertNull

class GovernorTest {
    private val governor = Governor()

    @Test
    fun `a hot battery rests until it is three degrees cooler`() {
        val decisions = listOf(42.9, 43.0, 42.0, 40.1, 40.0, 42.9).map { governor.decide(Reading(temperature = it)) }
        assertEquals(listOf(null, Pause.HOT, Pause.HOT, Pause.HOT, null, null), decisions)
    }

    @Test
    fun `severe throttling rests until it is light`() {
        val decisions = listOf(2, 3, 2, 1, 2).map { governor.decide(Reading(thermalStatus = it)) }
        assertEquals(listOf(null, Pause.HOT, Pause.HOT, null, null), decisions)
    }

    @Test
    fun `a cool battery does not end what throttling began`() {
        assertEquals(Pause.HOT, governor.decide(Reading(temperature = 30.0, thermalStatus = 4)))
        assertEquals(Pause.HOT, governor.decide(Reading(temperature = 30.0, thermalStatus = 2)))
        assertNull(governor.decide(Reading(temperature = 30.0, thermalStatus = 1)))
    }

    @Test
    fun `a low battery rests until it is charged to twenty percent or on a charger`() {
        val decisions = listOf(16, 15, 16, 19, 20, 16).map { governor.decide(Reading(battery = it)) }
        assertEquals(listOf(null, Pause.LOW_BATTERY, Pause.LOW_BATTERY, Pause.LOW_BATTERY, null, null), decisions)
        assertEquals(Pause.LOW_BATTERY, governor.decide(Reading(battery = 3)))
        assertNull(governor.decide(Reading(battery = 3, charging = true)))
    }

    @Test
    fun `heat on a charger rests although the battery does not`() {
        assertEquals(Pause.HOT, governor.decide(Reading(temperature = 45.0, battery = 3, charging = true)))
    }

    @Test
    fun `a phone that tells nothing learns`() = assertNull(governor.decide(Reading()))
}
